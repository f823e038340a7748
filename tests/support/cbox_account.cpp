#include <algorithm>
#include <cstdio>
#include "tests/support/cbox_account.hpp"

namespace replica::test {

namespace {

Account *entered;

unsigned below(std::mt19937 &random, unsigned n) { return static_cast<unsigned>(random() % n); }

const char *const keywords[] = {"work", "$Forwarded", "private", "$Junk", "later"};

struct mail_keywords *random_keywords(struct mailbox *box, std::mt19937 &random) {
    const char *names[3] = {keywords[below(random, 5)], nullptr, nullptr};
    if (below(random, 2) == 0) names[1] = keywords[below(random, 5)];
    struct mail_keywords *list;
    if (mailbox_keywords_create(box, names, &list) < 0) fail("keywords are refused");
    return list;
}

enum mail_flags random_flags(std::mt19937 &random) {
    return static_cast<enum mail_flags>(random() & MAIL_FLAGS_NONRECENT);
}

void add_attributes(struct mailbox *box, enum mail_attribute_type type, std::vector<std::string> *lines) {
    std::vector<std::string> keys;
    struct mailbox_attribute_iter *iter = mailbox_attribute_iter_init(box, type, "");
    while (const char *key = mailbox_attribute_iter_next(iter))
        keys.emplace_back(key);
    if (mailbox_attribute_iter_deinit(&iter) < 0) fail("attributes cannot be listed");
    std::sort(keys.begin(), keys.end());
    for (const std::string &key : keys) {
        struct mail_attribute_value value;
        if (mailbox_attribute_get(box, type, key.c_str(), &value) > 0 && value.value != nullptr)
            lines->push_back("attribute " + std::to_string(type) + " " + key + " " + value.value);
    }
}

std::string line_of(struct mail *mail) {
    time_t received, saved;
    uoff_t physical, virtual_size;
    const char *guid, *uidl;
    if (mail_get_received_date(mail, &received) < 0 || mail_get_save_date(mail, &saved) < 0 ||
        mail_get_physical_size(mail, &physical) < 0 || mail_get_virtual_size(mail, &virtual_size) < 0 ||
        mail_get_special(mail, MAIL_FETCH_GUID, &guid) < 0 ||
        mail_get_special(mail, MAIL_FETCH_UIDL_BACKEND, &uidl) < 0)
        fail(std::string("a mail's facts: ") + mailbox_get_last_internal_error(mail->box, nullptr));
    std::vector<std::string> names;
    for (const char *const *name = mail_get_keywords(mail); *name != nullptr; ++name)
        names.emplace_back(*name);
    std::sort(names.begin(), names.end());
    std::string words;
    for (const std::string &name : names)
        words += name + ",";
    char line[512];
    snprintf(line, sizeof(line),
             "mail %u flags=%x keywords=%s modseq=%llu guid=%s received=%lld saved=%lld size=%llu/%llu uidl=%s",
             mail->uid, mail_get_flags(mail) & MAIL_FLAGS_NONRECENT, words.c_str(),
             static_cast<unsigned long long>(mail_get_modseq(mail)), guid, static_cast<long long>(received),
             static_cast<long long>(saved), static_cast<unsigned long long>(physical),
             static_cast<unsigned long long>(virtual_size), uidl);
    return line;
}

} // namespace

void expect_equal(const std::vector<std::string> &a, const std::vector<std::string> &b, const std::string &when) {
    for (size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
        const std::string &left = i < a.size() ? a[i] : "(nothing)", &right = i < b.size() ? b[i] : "(nothing)";
        if (left != right) fail(when + ":\n  source  " + left + "\n  replica " + right);
    }
}

Account::Account(struct mail_storage_service_ctx *ctx, const char *user) {
    if (entered != nullptr) mail_storage_service_io_deactivate_user(entered->opened_.service_user);
    if (getuid() == 0 && seteuid(0) < 0) fail("seteuid(0)");
    entered = this;
    const char *error = "";
    if (compat::user_open(ctx, user, {}, &opened_, &error) <= 0) fail(std::string(user) + ": " + error);
    storage_ = reinterpret_cast<CboxStorage *>(
        mail_namespace_get_default_storage(mail_namespace_find_inbox(opened_.user->namespaces)));
    if (strcmp(storage_->storage.name, cbox_storage_name) != 0) fail(std::string(user) + " is not of cbox");
}

Account::~Account() {
    enter();
    close();
    mail_user_deinit(&opened_.user);
    mail_storage_service_io_deactivate_user(opened_.service_user);
    mail_storage_service_user_unref(&opened_.service_user);
    entered = nullptr;
}

void Account::enter() {
    if (entered == this) return;
    if (entered != nullptr) mail_storage_service_io_deactivate_user(entered->opened_.service_user);
    mail_storage_service_io_activate_user(opened_.service_user);
    entered = this;
}

void Account::catch_changes(Log *log) {
    callout_ = log->callout();
    storage_->callout = &callout_;
    storage_->callout_context = log;
}

void Account::create(const char *name, Account *source) {
    struct mailbox_update update = {};
    struct mailbox_status status;
    struct mailbox_metadata metadata;
    if (source != nullptr) {
        source->enter();
        mailbox_get_open_status(source->box_, STATUS_UIDVALIDITY, &status);
        if (mailbox_get_metadata(source->box_, MAILBOX_METADATA_GUID, &metadata) < 0) fail("no GUID");
        update.uid_validity = status.uidvalidity;
        memcpy(update.mailbox_guid, metadata.guid, sizeof(metadata.guid));
    }
    enter();
    struct mailbox *box = mailbox_alloc(mail_namespace_find_inbox(opened_.user->namespaces)->list, name,
                                        static_cast<enum mailbox_flags>(0));
    if (mailbox_create(box, source == nullptr ? nullptr : &update, FALSE) < 0)
        fail(std::string("create: ") + mailbox_get_last_internal_error(box, nullptr));
    mailbox_free(&box);
    open(name);
    if (api().mark_set(box_, {1, 1}, false) < 0) fail("the first mark");
}

void Account::open(const char *name) {
    enter();
    close();
    box_ = mailbox_alloc(mail_namespace_find_inbox(opened_.user->namespaces)->list, name,
                         static_cast<enum mailbox_flags>(0));
    if (mailbox_open(box_) < 0) fail(std::string("open: ") + mailbox_get_last_internal_error(box_, nullptr));
}

void Account::close() {
    if (box_ != nullptr) mailbox_free(&box_);
}

struct mailbox_transaction_context *Account::begin() {
    enter();
    if (mailbox_sync(box_, static_cast<enum mailbox_sync_flags>(0)) < 0) fail("sync");
    return mailbox_transaction_begin(box_, MAILBOX_TRANSACTION_FLAG_ASSIGN_UIDS, "test");
}

void Account::commit(struct mailbox_transaction_context *trans) { check(mailbox_transaction_commit(&trans), "commit"); }

void Account::check(int ret, const char *what) {
    if (ret < 0 && !refused_) fail(std::string(what) + ": " + mailbox_get_last_internal_error(box_, nullptr));
}

uint32_t Account::mails() {
    struct mailbox_status status;
    mailbox_get_open_status(box_, STATUS_MESSAGES, &status);
    return status.messages;
}

void Account::save_one(struct mailbox_transaction_context *trans, std::mt19937 &random) {
    const std::string text = "From: a@example.com\nSubject: " + std::to_string(random()) + "\n\n" +
                             std::string(below(random, 200), 'x') + "\n";
    struct mail_save_context *save = mailbox_save_alloc(trans);
    struct mail_keywords *list = below(random, 3) == 0 ? random_keywords(box_, random) : nullptr;
    mailbox_save_set_flags(save, random_flags(random), list);
    mailbox_save_set_received_date(save, static_cast<time_t>(1600000000 + below(random, 100000000)), 0);
    if (below(random, 5) == 0) mailbox_save_set_pop3_uidl(save, ("uidl-" + std::to_string(random())).c_str());
    struct istream *input = i_stream_create_from_data(text.data(), text.size());
    int ret = mailbox_save_begin(&save, input);
    while (ret == 0 && i_stream_read(input) > 0)
        ret = mailbox_save_continue(save);
    if (ret == 0) ret = mailbox_save_continue(save);
    if (ret == 0) ret = mailbox_save_finish(&save);
    if (ret < 0) fail(std::string("save: ") + mailbox_get_last_internal_error(box_, nullptr));
    i_stream_unref(&input);
    if (list != nullptr) mailbox_keywords_unref(&list);
}

void Account::save(unsigned count, std::mt19937 &random) {
    struct mailbox_transaction_context *trans = begin();
    for (unsigned i = 0; i < count; ++i)
        T_BEGIN { save_one(trans, random); }
    T_END;
    commit(trans);
}

void Account::toggle(uint32_t seq, enum mail_flags flag) {
    struct mailbox_transaction_context *trans = begin();
    struct mail *mail = mail_alloc(trans, static_cast<enum mail_fetch_field>(0), nullptr);
    mail_set_seq(mail, seq);
    mail_update_flags(mail, (mail_get_flags(mail) & flag) != 0 ? MODIFY_REMOVE : MODIFY_ADD, flag);
    mail_free(&mail);
    commit(trans);
}

void Account::expunge(uint32_t first_seq, uint32_t last_seq) {
    struct mailbox_transaction_context *trans = begin();
    struct mail *mail = mail_alloc(trans, static_cast<enum mail_fetch_field>(0), nullptr);
    for (uint32_t seq = first_seq; seq <= last_seq; ++seq) {
        mail_set_seq(mail, seq);
        mail_expunge(mail);
    }
    mail_free(&mail);
    commit(trans);
}

void Account::change_mails(std::mt19937 &random, bool flags, bool keywords_too, bool expunges) {
    struct mailbox_transaction_context *trans = begin();
    struct mail *mail = mail_alloc(trans, static_cast<enum mail_fetch_field>(0), nullptr);
    for (uint32_t seq = 1; seq <= mails(); ++seq) {
        if (below(random, 4) != 0) continue;
        mail_set_seq(mail, seq);
        if (flags) mail_update_flags(mail, static_cast<enum modify_type>(below(random, 3)), random_flags(random));
        if (keywords_too) {
            struct mail_keywords *list = random_keywords(box_, random);
            mail_update_keywords(mail, static_cast<enum modify_type>(below(random, 3)), list);
            mailbox_keywords_unref(&list);
        }
        if (expunges && below(random, 2) == 0) mail_expunge(mail);
    }
    mail_free(&mail);
    commit(trans);
}

void Account::change_attributes(std::mt19937 &random) {
    struct mailbox_transaction_context *trans = begin();
    for (unsigned i = 0; i <= below(random, 2); ++i) {
        const std::string key =
            std::string(below(random, 2) == 0 ? "comment" : "vendor/test/") + std::to_string(below(random, 3));
        const std::string text = "value " + std::to_string(random());
        auto type = below(random, 2) == 0 ? MAIL_ATTRIBUTE_TYPE_PRIVATE : MAIL_ATTRIBUTE_TYPE_SHARED;
        struct mail_attribute_value value = {};
        if (below(random, 4) != 0) value.value = text.c_str();
        if (mailbox_attribute_set(trans, type, key.c_str(), &value) < 0)
            fail(std::string("attribute: ") + mailbox_get_last_internal_error(box_, nullptr));
    }
    commit(trans);
}

void Account::update_headers(std::mt19937 &random) {
    enter();
    struct mailbox_status status;
    mailbox_get_open_status(box_, static_cast<enum mailbox_status_items>(STATUS_UIDNEXT | STATUS_HIGHESTMODSEQ),
                            &status);
    struct mailbox_update update = {};
    if (below(random, 2) == 0)
        update.min_next_uid = status.uidnext + below(random, 5);
    else
        update.min_highest_modseq = status.highest_modseq + below(random, 5);
    check(mailbox_update(box_, &update), "update");
}

void Account::copy_within(std::mt19937 &random) {
    struct mailbox_transaction_context *from = begin();
    struct mailbox_transaction_context *trans =
        mailbox_transaction_begin(box_, MAILBOX_TRANSACTION_FLAG_ASSIGN_UIDS, "copy");
    struct mail *mail = mail_alloc(from, static_cast<enum mail_fetch_field>(0), nullptr);
    for (uint32_t seq = 1; seq <= mails(); ++seq) {
        if (below(random, 6) != 0) continue;
        mail_set_seq(mail, seq);
        struct mail_save_context *save = mailbox_save_alloc(trans);
        mailbox_save_copy_flags(save, mail);
        if (mailbox_copy(&save, mail) < 0) fail(std::string("copy: ") + mailbox_get_last_internal_error(box_, nullptr));
    }
    mail_free(&mail);
    commit(trans);
    commit(from);
}

const char *Account::step(std::mt19937 &random) {
    switch (below(random, 10)) {
    case 0:
    case 1:
        save(1 + below(random, 4), random);
        return "save";
    case 2:
        change_mails(random, true, false, false);
        return "flags";
    case 3:
        change_mails(random, false, true, false);
        return "keywords";
    case 4:
        change_mails(random, true, true, false);
        return "flags and keywords";
    case 5:
        change_mails(random, false, false, true);
        return "expunge";
    case 6:
        change_mails(random, true, true, true);
        return "flags, keywords and expunge";
    case 7:
        change_attributes(random);
        return "attributes";
    case 8:
        update_headers(random);
        return "headers";
    default:
        copy_within(random);
        return "copy";
    }
}

std::vector<std::string> Account::dump(bool with_mark) {
    enter();
    if (mailbox_sync(box_, static_cast<enum mailbox_sync_flags>(0)) < 0)
        fail(std::string("sync: ") + mailbox_get_last_internal_error(box_, nullptr));
    struct mailbox_status status;
    struct mailbox_metadata metadata;
    mailbox_get_open_status(box_,
                            static_cast<enum mailbox_status_items>(STATUS_MESSAGES | STATUS_UIDNEXT |
                                                                   STATUS_UIDVALIDITY | STATUS_HIGHESTMODSEQ),
                            &status);
    if (mailbox_get_metadata(box_, MAILBOX_METADATA_GUID, &metadata) < 0) fail("no GUID");
    std::vector<std::string> lines;
    lines.push_back("uidvalidity " + std::to_string(status.uidvalidity) + " uidnext " + std::to_string(status.uidnext) +
                    " guid " +
                    to_hex(std::string_view(reinterpret_cast<char *>(metadata.guid), sizeof(metadata.guid))));
    lines.push_back("highestmodseq " + std::to_string(status.highest_modseq) + " mails " +
                    std::to_string(status.messages));
    if (with_mark) {
        Mark mark;
        if (api().mark_get(box_, &mark) < 0) fail("no mark");
        lines.push_back("mark " + to_string(mark.number) + (mark.unlogged ? " unlogged" : ""));
    }
    add_attributes(box_, MAIL_ATTRIBUTE_TYPE_PRIVATE, &lines);
    add_attributes(box_, MAIL_ATTRIBUTE_TYPE_SHARED, &lines);
    struct mailbox_transaction_context *trans =
        mailbox_transaction_begin(box_, static_cast<enum mailbox_transaction_flags>(0), "dump");
    struct mail *mail = mail_alloc(trans, static_cast<enum mail_fetch_field>(0), nullptr);
    for (uint32_t seq = 1; seq <= status.messages; ++seq)
        T_BEGIN {
            mail_set_seq(mail, seq);
            lines.push_back(line_of(mail));
        }
    T_END;
    mail_free(&mail);
    commit(trans);
    return lines;
}

} // namespace replica::test
