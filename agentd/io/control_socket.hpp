// The socket `replica-control`, which the doveadm commands use. Format: docs/formats/control-socket.md.
#pragma once
#include "agentd/core/operations.hpp"
#include "agentd/core/status.hpp"
#include "agentd/io/loop.hpp"

namespace replica {

struct ControlService { // outlives every connection
    const Control &control;
    Operations &operations;
    Loop &loop;
    const KeyRing &ring;
    StatusSettings status;
    const bool &ready; // the control log was read to its end
    Time started;      // of the agent: until a while later a store that was not heard yet may be alive
};
void serve_control(std::shared_ptr<Connection> connection, const ControlService &service);

} // namespace replica
