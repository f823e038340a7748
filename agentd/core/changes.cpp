#include "agentd/core/changes.hpp"

namespace replica {

std::optional<Object> created_by(const Change &change) {
    if (change.kind != ChangeKind::list_create || change.subject.empty()) return {};
    return Object{change.object.ns_prefix, change.subject};
}

std::optional<Object> deleted_by(const Change &change) {
    if (change.kind != ChangeKind::list_delete || change.subject.empty()) return {};
    return Object{change.object.ns_prefix, change.subject};
}

bool touches(const Change &change, const Object &object) {
    return change.object == object || created_by(change) == object;
}

std::string in_words(const Object &object) {
    return object.is_list() ? "the mailbox list" : "mailbox " + to_hex(object.mailbox);
}

} // namespace replica
