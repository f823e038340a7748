// What the agent must know after SIGKILL and after a power loss: small keyed facts in LMDB, all of which can be rebuilt
// from the logs and the marks. One transaction of facts is there whole or not at all. Thread: the agent's one. Fails:
// full (disk), corrupt. Limits: 4 GiB of facts (sparse file), keys of 511 bytes.
#pragma once
#include "lib/base/result.hpp"
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace replica {

class State {
public:
    static Result<std::unique_ptr<State>> open(const std::string &directory);
    ~State();

    struct Write {
        std::string key, value; // an empty value removes the key
    };
    Result<void> write(const std::vector<Write> &);       // durable when it returns
    Result<std::string> read(std::string_view key) const; // gone: no such key
    // Every key that begins with the prefix, in order.
    Result<void> each(std::string_view prefix,
                      const std::function<void(std::string_view key, std::string_view value)> &) const;

private:
    struct Impl;
    explicit State(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

} // namespace replica
