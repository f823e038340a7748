// promoteAccounts in a simulated cluster: why it refuses, its steps, and what stands when a store dies or comes late.
#include "agentd/core/status.hpp"
#include "tests/unit/operations_site.hpp"
#include <algorithm>

namespace replica::test {
namespace {

TEST_F(OperationsTest, PromotionWithALivingSource) {
    ASSERT_EQ(set(s1, "s2", 5, {"a@x", "b@x"}), "initialisation is complete: 2 accounts on s2");
    ASSERT_EQ(set(s1, "s3", 7, {"a@x"}), "initialisation is complete: 1 account on s3");
    change(s1, "a@x", 4);
    EXPECT_EQ(promote(s3, "s2", {"a@x", "b@x"}), "promotion is complete: s2 is the source of 2 accounts");
    auto *record = s1.control().account("a@x");
    EXPECT_EQ(record->source, "s2");
    EXPECT_EQ(record->epoch, 2u);
    EXPECT_EQ(record->version, 4u);
    EXPECT_EQ(record->state, AccountState::active);
    EXPECT_EQ(record->destinations, (std::vector<DestinationEntry>{{"s1", 5}, {"s3", 7}}));
    EXPECT_EQ(record->places.back().place, (Place{"replica.changes.s2", 0}));
    EXPECT_FALSE(s1.append("a@x")); // it has read the fence
    change(s2, "a@x", 2);
    EXPECT_EQ(s1.position("a@x"), (Number{2, 2}));
    EXPECT_EQ(s3.position("a@x"), (Number{2, 2}));
    expect_nothing_lost("a@x");
    EXPECT_EQ(promote(s1, "s1", {"a@x"}), "promotion is complete: s1 is the source of 1 account"); // and back
    change(s1, "a@x");
    EXPECT_EQ(s2.position("a@x"), (Number{3, 1}));
    EXPECT_EQ(cluster.truth("a@x").size(), 7u);
    expect_nothing_lost("a@x");
}

TEST_F(OperationsTest, PromotionWithADeadSourceTakesTheBestThatIsAliveAndComplete) {
    ASSERT_EQ(set(s1, "s2", 1, {"a@x"}), "initialisation is complete: 1 account on s2");
    ASSERT_EQ(set(s1, "s3", 2, {"a@x", "b@x"}), "initialisation is complete: 2 accounts on s3");
    change(s1, "a@x", 3);
    s1.kill();
    cluster.pass(10s);
    auto ids = s3.operations().promote(world.now, "", "s1", {}, false);
    ASSERT_TRUE(ids) << ids.error().message;
    ASSERT_EQ(ids->size(), 2u); // a@x to s2, b@x to s3
    EXPECT_EQ(outcome(s3, (*ids)[0]), "promotion is complete: s2 is the source of 1 account");
    EXPECT_EQ(outcome(s3, (*ids)[1]), "promotion is complete: s3 is the source of 1 account");
    change(s2, "a@x");
    expect_nothing_lost("a@x");
    s1.start(); // the old source returns as a destination
    cluster.pass(1s);
    EXPECT_FALSE(s1.append("a@x"));
    EXPECT_EQ(s1.position("a@x"), (Number{2, 1}));
}

TEST_F(OperationsTest, PromotionChecksItsRequest) {
    EXPECT_EQ(promote(s1, "s2", {"a@x"}), "refused: a@x: it has no replica");
    EXPECT_EQ(promote(s1, "s9", {"a@x"}), "refused: store s9 is unknown: no heartbeat of it was ever seen");
    EXPECT_EQ(promote(s1, "", {}), "refused: no account is named");
    EXPECT_EQ(refused(s1.operations().promote(world.now, "", "s1", {}, false)), "store s1 is the source of no account");
    ASSERT_EQ(set(s1, "s2", 1, {"a@x"}), "initialisation is complete: 1 account on s2");
    EXPECT_EQ(promote(s2, "s1", {"a@x"}), "refused: a@x: s1 is its source already");
    EXPECT_EQ(promote(s2, "s3", {"a@x"}), "refused: a@x: s3 is not a destination of it");
    EXPECT_EQ(refused(s1.operations().promote(world.now, "s2", "s3", {"a@x"}, false)), "a@x: its source is s1, not s3");
    s2.kill();
    cluster.pass(10s);
    EXPECT_EQ(promote(s1, "", {"a@x"}), "refused: a@x: no destination is alive and complete: s2 is silent");
    EXPECT_EQ(promote(s1, "s2", {"a@x"}), "refused: store s2 is silent: its last heartbeat came 10 s ago");
    ASSERT_EQ(set(s1, "s3", 2, {"b@x"}), "initialisation is complete: 1 account on s3");
    s3.wanted["b@x"] = {{"", Guid::from("0123456789abcdef")}};
    change(s1, "b@x");
    EXPECT_EQ(promote(s1, "", {"b@x"}), "refused: b@x: no destination is alive and complete: s3 is initial");
}

TEST_F(OperationsTest, AnIncompleteDestinationIsNotPromotedAndNothingIsDone) {
    ASSERT_EQ(set(s1, "s2", 1, {"a@x", "b@x"}), "initialisation is complete: 2 accounts on s2");
    s2.promotion_problems["b@x"] = "stopped: a gap";
    EXPECT_EQ(promote(s1, "s2", {"a@x", "b@x"}), "failed: nothing was done: b@x: s2 cannot take over: stopped: a gap");
    EXPECT_EQ(promote(s1, "s2", {"a@x", "b@x"}, true),
              "failed: nothing was done: b@x: s2 cannot take over: stopped: a gap");
    EXPECT_EQ(s1.control().account("a@x")->version, 1u);
    change(s1, "a@x");
}

TEST_F(OperationsTest, ForceGivesUpWhatIsWantedAndNamesIt) {
    ASSERT_EQ(set(s1, "s2", 1, {"a@x"}), "initialisation is complete: 1 account on s2");
    auto mailbox = Guid::from("0123456789abcdef");
    s2.wanted["a@x"] = {{"", {}}, {"", mailbox}};
    s2.promotion_problems["a@x"] = "following: 2 objects are wanted";
    change(s1, "a@x");
    EXPECT_EQ(promote(s1, "s2", {"a@x"}),
              "failed: nothing was done: a@x: s2 cannot take over: following: 2 objects are wanted");
    EXPECT_EQ(promote(s1, "s2", {"a@x"}, true),
              "promotion is complete: s2 is the source of 1 account, given up by force: "
              "a@x: the mailbox list, mailbox " +
                  to_hex(mailbox));
}

TEST_F(OperationsTest, WhatTheSourceHasPastTheLogIsAReasonToRefuse) {
    ASSERT_EQ(set(s1, "s2", 1, {"a@x"}), "initialisation is complete: 1 account on s2");
    change(s1, "a@x", 2);
    cluster.pass(1s);
    auto mailbox = Guid::from("0123456789abcdef");
    DestinationState source;
    source.account = "a@x";
    source.store = "s1";
    source.phase = DestinationPhase::source;
    source.wanted = {{"", mailbox}};
    auto say = [&] {
        world.write(destination_key(world.key("a@x"), store_hash(world.ring, "s1")), source);
        cluster.settle();
    };
    auto reason = [&] {
        auto rows = account_status(s1.control(), world.ring, world.now, {.self = "s1"}, {});
        return rows[0].reason + (rows[0].available ? ", available" : "");
    };
    say();
    std::string why = "mailbox " + to_hex(mailbox) + " on s1 has what no log has yet";
    EXPECT_EQ(promote(s1, "s2", {"a@x"}), "failed: nothing was done: a@x: s2 cannot take over: " + why);
    EXPECT_EQ(reason(), "1 objects have on the source what no log has yet");
    source.wanted.clear();
    source.position = {1, 3}; // its snapshot
    say();
    EXPECT_EQ(promote(s1, "s2", {"a@x"}), "failed: nothing was done: a@x: s2 cannot take over: s2 has not applied the "
                                          "snapshot 1/3 of what no log had before");
    EXPECT_EQ(reason(), "the snapshot 1/3 of what no log had before is not applied yet");
    change(s1, "a@x");
    cluster.pass(6s);
    source.reason = "mailbox 00 cannot be rolled forward";
    say();
    EXPECT_EQ(reason(), "on the source: mailbox 00 cannot be rolled forward, available");
    EXPECT_EQ(promote(s1, "s2", {"a@x"}), "promotion is complete: s2 is the source of 1 account");
}

TEST_F(OperationsTest, ALivingSourceIsAskedWhatNoLogHas) {
    ASSERT_EQ(set(s1, "s2", 1, {"a@x", "b@x"}), "initialisation is complete: 2 accounts on s2");
    s1.unlogged["b@x"] = "1 objects have what no log has yet";
    EXPECT_EQ(promote(s3, "s2", {"a@x", "b@x"}),
              "failed: nothing was done: b@x: s2 cannot take over: 1 objects have what no log has yet");
    EXPECT_EQ(promote(s3, "s2", {"b@x"}, true),
              "promotion is complete: s2 is the source of 1 account, given up by force: b@x: 1 objects have what no "
              "log has yet");
    s1.mute_worker = true;
    EXPECT_EQ(promote(s3, "s2", {"a@x"}), "failed: nothing was done: a@x: s2 cannot take over: s1 did not say in time "
                                          "whether it has what no log has");
    auto id = s3.operations().promote(world.now, "s2", "", {"a@x"}, false)->front();
    cluster.pass(2s);
    s1.kill(); // while it is asked
    EXPECT_EQ(outcome(s3, id), "promotion is complete: s2 is the source of 1 account");
}

TEST_F(OperationsTest, ForceGivesUpWhatTheSourceHasPastTheLogAndNamesItOnce) {
    ASSERT_EQ(set(s1, "s2", 1, {"a@x"}), "initialisation is complete: 1 account on s2");
    DestinationState source;
    source.account = "a@x";
    source.store = "s1";
    source.phase = DestinationPhase::source;
    source.wanted = {{"", {}}};
    world.write(destination_key(world.key("a@x"), store_hash(world.ring, "s1")), source);
    cluster.settle();
    EXPECT_EQ(promote(s1, "s2", {"a@x"}, true),
              "promotion is complete: s2 is the source of 1 account, given up by force: "
              "a@x: the mailbox list on s1 has what no log has yet");
}

TEST_F(OperationsTest, ALogThatEndsBelowWhatWasAcknowledgedIsDamaged) {
    ASSERT_EQ(set(s1, "s2", 1, {"a@x"}), "initialisation is complete: 1 account on s2");
    change(s1, "a@x", 3);
    cluster.pass(1s);
    s1.kill();
    s2.kill(); // it has to read again, and the log has lost its end
    world.places[{"replica.changes.s1", 0}].resize(2);
    s2.start();
    cluster.pass(10s);
    EXPECT_EQ(promote(s3, "s2", {"a@x"}),
              "failed: nothing was done: a@x: damaged: replica.changes.s1/0 was acknowledged up to offset 3, "
              "but s2 reads it only to offset 2");
    EXPECT_EQ(s3.control().account("a@x")->version, 1u);
}

TEST_F(OperationsTest, WhatAnotherDestinationHasMustBeHere) {
    ASSERT_EQ(set(s1, "s2", 1, {"a@x"}), "initialisation is complete: 1 account on s2");
    ASSERT_EQ(set(s1, "s3", 2, {"a@x"}), "initialisation is complete: 1 account on s3");
    cluster.pass(1s);
    DestinationState ahead = *s1.control().destination("a@x", "s3");
    ahead.position = {1, 77};
    world.write(destination_key(world.key("a@x"), store_hash(world.ring, "s3")), ahead);
    EXPECT_EQ(promote(s1, "s2", {"a@x"}), "failed: nothing was done: a@x: damaged: others have 1/77, s2 only 1/0");
}

TEST_F(OperationsTest, ATargetThatHasNotReachedTheActiveEpochIsNotPromoted) {
    ASSERT_EQ(set(s1, "s2", 1, {"a@x"}), "initialisation is complete: 1 account on s2");
    s1.kill();
    ASSERT_EQ(promote(s2, "s2", {"a@x"}), "promotion is complete: s2 is the source of 1 account");
    change(s2, "a@x", 3);
    for (auto &entry : world.places[{"replica.changes.s1", 0}]) // what its reader missed, for whatever reason
        if (entry.record.kind == RecordKind::fence) entry.account = world.key("b@x");
    s1.start();
    cluster.pass(10s);
    EXPECT_EQ(promote(s2, "s1", {"a@x"}), "failed: nothing was done: a@x: damaged: others have 2/0, s1 only 1/0");
    EXPECT_EQ(s2.control().account("a@x")->source, "s2");
    expect_nothing_lost("a@x");
}

TEST_F(OperationsTest, ATargetThatComesBackLateLeavesTheCommand) {
    ASSERT_EQ(set(s1, "s2", 1, {"a@x"}), "initialisation is complete: 1 account on s2");
    auto id = s1.operations().promote(world.now, "s2", "", {"a@x"}, false)->front();
    s2.kill(); // before it has read of it
    cluster.pass(11min);
    s2.start();
    EXPECT_EQ(outcome(s1, id), "failed: nothing was done: s2 did not begin in time");
    EXPECT_EQ(s1.control().account("a@x")->source, "s1");
}

TEST_F(OperationsTest, ATargetThatComesBackDoesNotUndoALaterPromotion) {
    ASSERT_EQ(set(s1, "s2", 1, {"a@x"}), "initialisation is complete: 1 account on s2");
    ASSERT_EQ(set(s1, "s3", 2, {"a@x"}), "initialisation is complete: 1 account on s3");
    auto id = s1.operations().promote(world.now, "s2", "", {"a@x"}, false)->front();
    s2.kill();
    cluster.pass(6s);
    ASSERT_EQ(promote(s1, "s3", {"a@x"}), "promotion is complete: s3 is the source of 1 account");
    s2.start();
    EXPECT_EQ(outcome(s1, id), "failed: nothing was done: a@x: its record changed since the command");
    EXPECT_EQ(s1.control().account("a@x")->source, "s3");
}

TEST_F(OperationsTest, AnAccountThatIsBeingPromotedTakesNoOtherChange) {
    ASSERT_EQ(set(s1, "s2", 1, {"a@x"}), "initialisation is complete: 1 account on s2");
    ASSERT_EQ(set(s1, "s3", 2, {"a@x"}), "initialisation is complete: 1 account on s3");
    AccountRecord promoting = *s1.control().account("a@x");
    promoting.version++;
    promoting.epoch++;
    promoting.source = "s2";
    promoting.state = AccountState::promoting;
    promoting.destinations = {{"s1", 1}, {"s3", 2}};
    promoting.places.push_back({2, {"replica.changes.s2", 0}, 0, 0});
    world.write(account_record_key(world.key("a@x"), promoting.version, store_hash(world.ring, "s2"), Session{}, 1),
                promoting);
    cluster.settle();
    EXPECT_EQ(set(s1, "s3", 3, {"a@x"}), "refused: a@x: it is being promoted to s2");
    EXPECT_EQ(remove(s1, "s3", {"a@x"}), "refused: a@x: it is being promoted to s2");
    // No driver knows of it: s1 goes on, and every way out is open.
    change(s1, "a@x", 2);
    EXPECT_EQ(promote(s3, "s1", {"a@x"}), "promotion is complete: s1 is the source of 1 account");
    EXPECT_EQ(s1.control().account("a@x")->destinations, (std::vector<DestinationEntry>{{"s2", 1}, {"s3", 2}}));
    change(s1, "a@x");
    expect_nothing_lost("a@x");
    EXPECT_EQ(cluster.truth("a@x").size(), 3u);
}

TEST_F(OperationsTest, TheSourceAcknowledgesUntilItReadsTheFence) {
    ASSERT_EQ(set(s1, "s2", 1, {"a@x"}), "initialisation is complete: 1 account on s2");
    auto id = s1.operations().promote(world.now, "s2", "", {"a@x"}, false)->front();
    auto until = [&](auto reached) {
        for (int i = 0; i < 1000 && !reached(); i++)
            for (auto *store : {&s1, &s2}) {
                store->tick();
                store->deliver_control();
                store->read_control();
                if (reached()) break;
            }
    };
    until([&] { return s1.control().account("a@x")->state == AccountState::promoting; });
    ASSERT_EQ(s1.control().account("a@x")->state, AccountState::promoting);
    auto before = world.acknowledged.size();
    ASSERT_TRUE(s1.append("a@x")); // s1 knows of the promotion, the fence is not written
    ASSERT_TRUE(s1.deliver_record());
    while (s1.read_place()) {
    }
    EXPECT_EQ(world.acknowledged.size(), before + 1);
    ASSERT_TRUE(s1.append("a@x")); // on its way when the fence is written
    until([&] { return s2.produced > 0; });
    while (s2.deliver_record()) {
    }
    ASSERT_TRUE(s1.deliver_record()); // void
    EXPECT_EQ(outcome(s1, id), "promotion is complete: s2 is the source of 1 account");
    EXPECT_EQ(world.acknowledged.size(), before + 1);
    EXPECT_EQ(cluster.truth("a@x").size(), before + 1);
    expect_nothing_lost("a@x");
}

TEST_F(OperationsTest, TheOpenWaitsForAFlushThatSucceeded) {
    ASSERT_EQ(set(s1, "s2", 1, {"a@x"}), "initialisation is complete: 1 account on s2");
    auto id = s1.operations().promote(world.now, "s2", "", {"a@x"}, false)->front();
    auto work = [&] { // all but answers to a flush
        for (int i = 0; i < 100; i++)
            for (auto *store : {&s1, &s2}) {
                world.now += 10ms;
                store->tick();
                store->deliver_control();
                store->read_control();
                store->deliver_record();
                store->read_place();
                store->apply_one();
            }
    };
    for (int i = 0; i < 3; i++) {
        work();
        EXPECT_EQ(s2.produced, 1); // the fence
        ASSERT_TRUE(s2.answer_flush(false));
    }
    work();
    ASSERT_TRUE(s2.answer_flush(true));
    work();
    EXPECT_EQ(s2.produced, 2);
    EXPECT_EQ(outcome(s1, id), "promotion is complete: s2 is the source of 1 account");
}

TEST_F(OperationsTest, AWholeStoreIsPromotedInBatches) {
    Names accounts;
    for (int i = 0; i < 600; i++)
        accounts.push_back("u" + std::to_string(i) + "@x");
    ASSERT_EQ(set(s1, "s2", 1, accounts), "initialisation is complete: 600 accounts on s2");
    s1.kill();
    cluster.pass(10s);
    auto ids = s3.operations().promote(world.now, "", "s1", {}, false);
    ASSERT_TRUE(ids) << ids.error().message;
    EXPECT_EQ(outcome(s3, ids->front()), "promotion is complete: s2 is the source of 600 accounts");
}

} // namespace
} // namespace replica::test
