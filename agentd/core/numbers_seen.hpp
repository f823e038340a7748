// When an account's last changes came by, by number, to say for how long somebody has been behind. Bounded: what came
// within a second is one step, and beyond `steps_max` of them older ones are joined in pairs.
#pragma once
#include <algorithm>
#include <optional>
#include <vector>
#include "agentd/core/effects.hpp"

namespace replica {

class NumbersSeen {
public:
    void saw(Time now, const Number &number) {
        if (!steps_.empty() && now < steps_.back().since + std::chrono::seconds(1)) {
            steps_.back().last = number;
            return;
        }
        if (steps_.size() == steps_max) join_pairs();
        steps_.push_back({now, number});
    }
    // When the first one after `number` came; a step earlier at most. None: nothing came after it.
    std::optional<Time> first_after(const Number &number) const {
        auto found = std::ranges::upper_bound(steps_, number, {}, &Step::last);
        return found == steps_.end() ? std::nullopt : std::optional(found->since);
    }

    static constexpr size_t steps_max = 32;

private:
    struct Step {
        Time since; // its first one came
        Number last;
    };
    void join_pairs() {
        for (size_t i = 0; i < steps_max / 2; i++)
            steps_[i] = {steps_[2 * i].since, steps_[2 * i + 1].last};
        steps_.resize(steps_max / 2);
    }
    std::vector<Step> steps_;
};

} // namespace replica
