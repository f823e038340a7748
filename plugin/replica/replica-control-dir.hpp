// What the control dir says of an account: <mail root>/.replica/state, one line `1 <role> <epoch> <boot id>`, written
// only by the worker on the agent's order. The agent's record decides; the file only says whether to ask. Thread: any.
// Fails: a file that is there but cannot be read or understood is an error, never "not replicated".
#pragma once
#include "lib/base/result.hpp"
#include "lib/wire/worker.hpp"
#include <optional>
#include <string>
#include <string_view>

namespace replica {

struct ControlState {
    Role role = Role::none;
    uint64_t epoch = 0;
    std::string boot; // the boot in which the account was last known to be rolled forward
};

Result<ControlState> parse_control_state(std::string_view text);
// None: no file, so the account is not replicated. Costs one open() there.
Result<std::optional<ControlState>> read_control_state(const char *path);
// This boot's id, read once; empty if the system does not tell.
const std::string &current_boot();

} // namespace replica
