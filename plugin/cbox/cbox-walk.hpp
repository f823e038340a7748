// Through an account: its mailboxes, what their indexes name, and the names of its bodies where they lie.
#pragma once
#include <functional>
#include "plugin/cbox/cbox-driver.hpp"

namespace replica {

// Blobs by how their ids begin: two that begin alike stand for each other.
class CboxBlobNames {
public:
    bool add(struct mailbox *box, struct mail_index_view *view); // false: a mail names none
    void sort();                                                 // after the last one is added
    bool has(const Guid &blob) const;
    size_t size() const { return names_.size(); }

private:
    std::vector<uint64_t> names_;
};

// Calls `each` for the list's mailboxes that are there and are cbox's, not opened yet, until one answers -1.
// -1: that, or the list cannot be read, and `errors` says why.
int cbox_each_mailbox(struct mailbox_list *list, struct mail_storage *errors,
                      const std::function<int(struct mailbox *)> &each);

// The names in a directory of the file system of bodies. -1: error_r says why.
int cbox_each_name(CboxStorage *storage, struct event *event, const std::string &path, int iter_flags,
                   const std::function<void(const char *)> &each, const char **error_r);

} // namespace replica
