// Commands given in a simulated cluster of three stores, and what becomes of them.
#pragma once
#include "tests/unit/simulated_cluster.hpp"
#include <gtest/gtest.h>

namespace replica::test {

using Names = std::vector<std::string>;

struct OperationsTest : testing::Test {
    Cluster cluster;
    World &world = cluster.world;
    Store &s1 = cluster["s1"], &s2 = cluster["s2"], &s3 = cluster["s3"];

    std::string refused(const Result<Guid> &result) { return result ? "accepted" : result.error().message; }
    std::string refused(const Result<std::vector<Guid>> &result) {
        return result ? "accepted" : result.error().message;
    }
    // Lets the cluster work until the operation ends; its result.
    std::string outcome(Store &seen_by, const Guid &id, Time::duration limit = 60s) {
        for (auto end = world.now + limit; world.now < end; cluster.pass(200ms)) {
            auto *operation = seen_by.operation(id);
            if (operation && operation->phase == OperationPhase::done) return operation->result;
            if (operation && operation->phase == OperationPhase::failed) return "failed: " + operation->result;
        }
        return "never ended";
    }
    std::string set(Store &on, const std::string &target, uint32_t priority, const Names &accounts) {
        auto id = on.operations().set(world.now, target, priority, accounts);
        return id ? outcome(on, *id) : "refused: " + id.error().message;
    }
    std::string remove(Store &on, const std::string &target, const Names &accounts) {
        auto id = on.operations().remove(world.now, target, accounts);
        return id ? outcome(on, *id) : "refused: " + id.error().message;
    }
    std::string promote(Store &on, const std::string &target, const Names &accounts, bool force = false) {
        auto ids = on.operations().promote(world.now, target, "", accounts, force);
        return ids ? outcome(on, ids->front()) : "refused: " + ids.error().message;
    }
    void expect_nothing_lost(const std::string &account) {
        auto truth = cluster.truth(account);
        for (auto &each : world.acknowledged) {
            if (each.account != account) continue;
            EXPECT_TRUE(truth.contains(each.number)) << account << " " << to_string(each.number);
        }
    }
    void change(Store &source, const std::string &account, int times = 1) {
        for (int i = 0; i < times; i++) {
            ASSERT_TRUE(source.append(account));
            cluster.settle();
        }
    }
};

} // namespace replica::test
