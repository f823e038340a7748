// METADATA lives in Dovecot's dict, under the mailbox's GUID. Dovecot would commit the dict before a save's call-out;
// here its transactions are taken out of the mailbox transaction and committed once the change counts, still under the
// lock and before the index: what a crash leaves half done is behind the mark, so the roll-forward sets it again.
#include "plugin/cbox/cbox-driver.hpp"

namespace replica {

int cbox_attribute_set(struct mailbox_transaction_context *t, enum mail_attribute_type type_flags, const char *key,
                       const struct mail_attribute_value *value) {
    struct mail_attribute_value plain = *value;
    if (mailbox_attribute_value_to_string(t->box->storage, value, &plain.value) < 0) return -1;
    plain.value_stream = nullptr;
    if (index_storage_attribute_set(t, type_flags, key, &plain) < 0) return -1;

    auto *ct = cbox_transaction(t);
    if (ct->attributes == nullptr) ct->attributes = new std::vector<Attribute>;
    Attribute attribute{.shared = (type_flags & MAIL_ATTRIBUTE_TYPE_MASK) == MAIL_ATTRIBUTE_TYPE_SHARED,
                        .key = key,
                        .value = std::nullopt};
    if (plain.value != nullptr) attribute.value = plain.value;
    // The last value of a key is the one that counts.
    std::erase_if(*ct->attributes, [&](const Attribute &a) { return a.shared == attribute.shared && a.key == key; });
    ct->attributes->push_back(std::move(attribute));
    return 0;
}

static int dict_commit(struct mailbox *box, struct dict_transaction_context **trans) {
    const char *error;
    if (*trans == nullptr || dict_transaction_commit(trans, &error) >= 0) return 0;
    mailbox_set_critical(box, "cbox: mailbox attributes were not committed: %s", error);
    return -1;
}

int cbox_attributes_commit(struct mailbox_transaction_context *t) {
    int pvt = dict_commit(t->box, &t->attr_pvt_trans), shared = dict_commit(t->box, &t->attr_shared_trans);
    return pvt < 0 || shared < 0 ? -1 : 0;
}

static enum mail_attribute_type type_of(bool shared) {
    return shared ? MAIL_ATTRIBUTE_TYPE_SHARED : MAIL_ATTRIBUTE_TYPE_PRIVATE;
}

int cbox_attributes_write(struct mailbox *box, struct mail_index_transaction *trans,
                          const std::vector<Attribute> &attributes) {
    if (attributes.empty()) return 0;
    // A mailbox transaction is where the dict's are found; its index part is thrown away.
    auto *t = index_transaction_begin(box, static_cast<enum mailbox_transaction_flags>(0), __func__);
    int ret = 0;
    for (const auto &attribute : attributes) {
        struct mail_attribute_value value = {};
        if (attribute.value) value.value = attribute.value->c_str();
        if (index_storage_attribute_set(t, type_of(attribute.shared), attribute.key.c_str(), &value) < 0) {
            ret = -1;
            break;
        }
        if (trans == nullptr) continue;
        if (attribute.value)
            mail_index_attribute_set(trans, !attribute.shared, attribute.key.c_str(), ioloop_time,
                                     static_cast<uint32_t>(attribute.value->size()));
        else
            mail_index_attribute_unset(trans, !attribute.shared, attribute.key.c_str(), ioloop_time);
    }
    if (ret == 0) ret = cbox_attributes_commit(t);
    index_transaction_rollback(t);
    return ret;
}

static int attributes_read_type(struct mailbox *box, bool shared, std::vector<Attribute> *attributes_r) {
    auto *iter = index_storage_attribute_iter_init(box, type_of(shared), "");
    const char *key;
    int ret = 0;
    while (ret == 0 && (key = index_storage_attribute_iter_next(iter)) != nullptr) {
        struct mail_attribute_value value;
        std::string name = key;
        int found = index_storage_attribute_get(box, type_of(shared), name.c_str(), &value);
        if (found < 0) ret = -1;
        if (found > 0) attributes_r->push_back({shared, name, value.value});
    }
    if (index_storage_attribute_iter_deinit(iter) < 0) ret = -1;
    // No dict is configured: there is nothing to read.
    if (ret < 0 && mailbox_get_last_mail_error(box) == MAIL_ERROR_NOTPOSSIBLE) ret = 0;
    return ret;
}

int cbox_attributes_read(struct mailbox *box, std::vector<Attribute> *attributes_r) {
    attributes_r->clear();
    if (attributes_read_type(box, false, attributes_r) < 0) return -1;
    return attributes_read_type(box, true, attributes_r);
}

} // namespace replica
