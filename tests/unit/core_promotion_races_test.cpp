// Promotions that race, with stores that die and come back between any two steps: nothing acknowledged is lost, never
// two writers, no reader finds a gap, every operation ends, and afterwards the account can be served again.
#include "tests/unit/simulated_cluster.hpp"
#include <algorithm>
#include <gtest/gtest.h>

namespace replica::test {
namespace {

const std::vector<std::string> names = {"s1", "s2", "s3"}, accounts = {"a@x", "b@x"};

struct Races {
    Cluster cluster;
    std::mt19937 random;
    World &world = cluster.world;

    explicit Races(unsigned seed) : random(seed) {
        auto &s1 = cluster["s1"];
        for (uint32_t priority : {1, 2})
            EXPECT_TRUE(s1.operations().set(world.now, names[priority], priority, accounts));
        cluster.pass(5s);
        EXPECT_TRUE(s1.operations().idle());
        EXPECT_EQ(s1.control().account("a@x")->destinations.size(), 2u);
    }
    Store &any() { return cluster[names[random() % names.size()]]; }
    const std::string &account() { return accounts[random() % accounts.size()]; }
    std::vector<std::string> some_accounts() { return random() % 2 == 0 ? accounts : std::vector{account()}; }

    void disturb() {
        auto &store = any();
        if (!store.alive) {
            if (random() % 3 == 0) store.start();
            return;
        }
        switch (random() % 8) {
        case 0:
            store.kill(&random);
            break;
        case 1:
        case 2:
        case 3: { // refused or not, both are fine
            auto target = random() % 3 == 0 ? std::string() : names[random() % names.size()];
            (void)store.operations().promote(world.now, target, "", some_accounts(), false);
            break;
        }
        case 4:
            (void)store.operations().set(world.now, names[random() % names.size()], static_cast<uint32_t>(random() % 4),
                                         some_accounts());
            break;
        default:
            world.now += 300ms;
            for (auto &[name, each] : cluster.stores)
                if (each->alive) each->heartbeat();
        }
    }
    void run(int steps) {
        for (int i = 0; i < steps; i++) {
            if (random() % 60 == 0) disturb();
            if (random() % 12 == 0)
                if (auto &store = any(); store.alive) store.append(account());
            cluster.step(random);
        }
    }
    // Peace: all come back and everything under way ends.
    void calm_down() {
        for (auto &[name, store] : cluster.stores)
            if (!store->alive) store->start();
        cluster.pass(90s);
        for (auto &[name, store] : cluster.stores) {
            EXPECT_TRUE(store->operations().idle()) << name;
            EXPECT_EQ(store->unsettled(), 0u) << name;
            EXPECT_TRUE(store->stopped.empty()) << name << " found a gap";
            for (auto *operation : store->control().operations())
                EXPECT_TRUE(operation->phase == OperationPhase::done || operation->phase == OperationPhase::failed);
        }
    }
    void expect_nothing_lost() {
        std::set<std::pair<std::string, Number>> seen;
        std::map<std::string, std::set<Number>> truth;
        for (auto &account : accounts)
            truth[account] = cluster.truth(account);
        for (auto &each : world.acknowledged) {
            EXPECT_TRUE(truth[each.account].contains(each.number))
                << each.account << " lost " << to_string(each.number);
            EXPECT_TRUE(seen.emplace(each.account, each.number).second) << "two writers of " << to_string(each.number);
        }
    }
    // A promotion that stopped halfway leaves an account that can be promoted once more.
    void expect_service() {
        for (auto &account : accounts) {
            auto record = *cluster["s1"].control().account(account);
            for (auto &name : names)
                EXPECT_EQ(*cluster[name].control().account(account), record);
            if (record.state == AccountState::promoting) {
                auto &to = record.destinations[random() % record.destinations.size()].store;
                auto ids = cluster["s1"].operations().promote(world.now, to, "", {account}, false);
                ASSERT_TRUE(ids) << ids.error().message;
                cluster.pass(60s);
                auto *operation = cluster["s1"].operation(ids->front());
                EXPECT_EQ(operation->phase, OperationPhase::done) << operation->result;
                record = *cluster["s1"].control().account(account);
            }
            ASSERT_EQ(record.state, AccountState::active);
            auto &source = cluster[record.source];
            EXPECT_TRUE(source.append(account)) << account;
            cluster.pass(1s);
            for (auto &name : names) {
                EXPECT_EQ(cluster[name].position(account), source.position(account)) << name;
                EXPECT_TRUE(&cluster[name] == &source || !cluster[name].append(account)) << name;
            }
            EXPECT_EQ(cluster.truth(account).empty(), false);
        }
    }
};

TEST(PromotionRaces, NothingIsLostWhoeverDiesWhenever) {
    size_t acknowledged = 0, promotions = 0;
    for (unsigned seed = 1; seed <= 25; seed++) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        Races races(seed);
        races.run(4000);
        races.calm_down();
        races.expect_nothing_lost();
        races.expect_service();
        races.expect_nothing_lost();
        acknowledged += races.world.acknowledged.size();
        promotions += races.cluster["s1"].control().account("a@x")->epoch - 1;
        if (testing::Test::HasFailure()) return;
    }
    EXPECT_GT(acknowledged, 25u * 10);
    EXPECT_GT(promotions, 25u);
    std::cout << acknowledged << " changes acknowledged, " << promotions << " promotions of one of the accounts\n";
}

} // namespace
} // namespace replica::test
