// A directory beside a mailbox's index directory, in which a new index grows until one rename exchanges the two. All
// errors are set on the storage.
#pragma once
#include "plugin/cbox/cbox-private.hpp"

namespace replica {

std::string aside_path(struct mailbox *box); // one for each mailbox

// Empty and with the live one's owner and mode. What a crash left there is removed first.
int aside_create(struct mailbox *box, const std::string &dir);

// An index file without mails that carries the live index's id, so that sessions take what comes after the exchange for
// a later state of the index they know, and that lets the log begin behind `log_seq`.
int aside_seed(struct mailbox *box, const std::string &dir, uint32_t log_seq);

// Makes what is in there durable. The index is closed.
int aside_sync(struct mailbox *box, const std::string &dir);

// Under the live index's lock: the two directories change places, durably. What is not of the index stays in place.
int aside_exchange(struct mailbox *box, const std::string &dir);

// After an exchange, or a crash around it: what is in there and not of the index goes to the live directory unless that
// has it, the rest is removed.
int aside_remove(struct mailbox *box, const std::string &dir);

} // namespace replica
