// The socket `replica-dict`: Dovecot's dict protocol, so that `passdb { driver = dict }` routes each account to its
// source, live from the control log. Answers shared/passdb/<user> with a JSON object of passdb fields; an account
// without a replica is not found.
#pragma once
#include "agentd/core/control.hpp"
#include "agentd/io/loop.hpp"

namespace replica {

void serve_dict(std::shared_ptr<Connection> connection, const Control &control);

} // namespace replica
