#include "agentd/core/follow.hpp"
#include "tests/unit/core_effects.hpp"

namespace replica {
namespace {

using namespace std::chrono_literals;
using Objects = std::vector<Object>;

const Place place{"replica.changes.a", 0};
const Session first_life = Session::from("life-one"), second_life = Session::from("life-two");

class FollowTest : public testing::Test {
protected:
    void begin(Follow::Start start) { follow = std::make_unique<Follow>("u", AccountKey{}, start, effects); }
    void SetUp() override { begin({{1, 10}, false, {}}); }

    void read(uint64_t sequence, std::vector<Change> changes) {
        follow->counted(now, {place, offset++, {}, {1, sequence}, life, Record{.changes = std::move(changes)}});
    }
    void read_snapshot(uint64_t sequence, const Object &object) {
        read(sequence, {Change{object, ChangeKind::snapshot, {}, {}, encode(SnapshotChange{id})}});
    }
    void read_bulk(const Bulk &bulk) {
        Record record;
        record.kind = RecordKind::bulk;
        record.bulk = encode(bulk);
        follow->bulk(now, {place, offset++, {}, {1, 0}, life, record});
    }
    Bulk part(uint64_t n, bool last = false) const {
        Bulk bulk{mailbox(1), id, n, {}, {}, {}};
        if (n == 0) bulk.head = Bulk::Head{1, 5, 3, 2, {}};
        bulk.mails.resize(1);
        bulk.mails[0].uid = static_cast<uint32_t>(n) + 1;
        if (last) bulk.sum = Bulk::Sum{2, {}};
        return bulk;
    }
    // A snapshot of mailbox 1 is read at `sequence` and collected from now on.
    void open_collection(uint64_t sequence) {
        read_snapshot(sequence, mailbox(1));
        effects.reply({Verdict::wanted});
    }
    void pass(std::chrono::milliseconds time) { follow->tick(now += time); }
    DestinationState state() const {
        DestinationState described;
        follow->describe(described);
        return described;
    }

    RecordedEffects effects;
    std::unique_ptr<Follow> follow;
    Time now{1000s};
    int64_t offset = 100;
    Session life = first_life;
    SnapshotId id = SnapshotId::from("a random snapshot id");
};

TEST_F(FollowTest, ThePositionMovesWithWholeRecords) {
    read(11, {change_of(mailbox(1), {1, 3}), change_of(mailbox(2), {1, 4})});
    EXPECT_EQ(effects.expect_request<Apply>().changes.size(), 2u);
    EXPECT_EQ(follow->applied(), (Number{1, 10}));
    EXPECT_EQ(follow->oldest_needed()->second, 100);
    effects.reply({Verdict::applied, Verdict::skipped});
    EXPECT_EQ(follow->applied(), (Number{1, 11}));
    EXPECT_EQ(follow->storable(), (Number{1, 11}));
    EXPECT_TRUE(follow->idle());
    EXPECT_FALSE(follow->oldest_needed());
    EXPECT_EQ(follow->phase(), DestinationPhase::complete);
}

TEST_F(FollowTest, OneBatchIsAtTheWorkerAndHasALimit) {
    for (uint64_t s = 11; s <= 110; ++s)
        read(s, {change_of(mailbox(1), {1, s - 1})});
    EXPECT_EQ(effects.asked.size(), 1u);
    effects.reply({Verdict::applied});
    EXPECT_EQ(effects.asked.size(), 1u);
    auto batch = effects.expect_request<Apply>();
    EXPECT_EQ(batch.changes.size(), Follow::window);
    EXPECT_EQ(batch.changes.front().number, (Number{1, 12}));
}

TEST_F(FollowTest, AFullQueueHoldsReadingBack) {
    uint64_t s = 11;
    while (!follow->full()) {
        read(s, {change_of(mailbox(1), {1, s - 1})});
        ++s;
    }
    EXPECT_EQ(s - 11, Follow::queue_max);
    effects.reply({Verdict::applied});
    EXPECT_FALSE(follow->full());
    read(s, {change_of(mailbox(1), {1, s - 1}, std::string(Follow::queue_bytes_max, 'x'))});
    EXPECT_TRUE(follow->full());
}

TEST_F(FollowTest, WhatTheWorkerWantsIsNamedAndThePositionGoesOn) {
    follow->take_changed();
    read(11, {change_of(mailbox(1), {1, 3})});
    effects.reply({Verdict::wanted});
    EXPECT_EQ(follow->applied(), (Number{1, 11}));
    EXPECT_EQ(follow->phase(), DestinationPhase::following);
    EXPECT_EQ(state().wanted, Objects{mailbox(1)});
    EXPECT_TRUE(follow->take_changed());
    EXPECT_FALSE(follow->take_changed());
}

TEST_F(FollowTest, AMailboxThatIsNotInTheListWantsTheListToo) {
    read(11, {change_of(mailbox(1), {1, 3})});
    effects.reply({Verdict::list_wanted});
    EXPECT_EQ(state().wanted, (Objects{list_object(), mailbox(1)}));
}

TEST_F(FollowTest, ARetryResendsFromThatChangeOnAndIsNamedAfterAWhile) {
    read(11, {change_of(mailbox(1), {1, 3}), change_of(mailbox(2), {1, 3})});
    effects.reply({Verdict::applied, Verdict::retry}, "locked");
    EXPECT_TRUE(effects.asked.empty());
    EXPECT_EQ(*follow->deadline(), now + Follow::retry_after);
    for (int i = 0; i < 51; ++i) {
        pass(200ms);
        ASSERT_EQ(effects.expect_request<Apply>().changes.at(0).change.object, mailbox(2));
        EXPECT_EQ(follow->reason().empty(), i < 50) << i;
        effects.reply({Verdict::retry}, "locked");
    }
    EXPECT_NE(follow->reason().find("locked"), std::string::npos);
    pass(200ms);
    effects.reply({Verdict::applied});
    EXPECT_EQ(follow->reason(), "");
    EXPECT_EQ(follow->applied(), (Number{1, 11}));
}

TEST_F(FollowTest, DivergedStopsWithTheText) {
    read(11, {change_of(mailbox(1), {1, 3})});
    read(12, {change_of(mailbox(2), {1, 3})});
    effects.reply({Verdict::diverged}, "uid 7 is another mail");
    EXPECT_EQ(follow->phase(), DestinationPhase::stopped);
    EXPECT_NE(follow->reason().find("uid 7"), std::string::npos);
    EXPECT_EQ(follow->applied(), (Number{1, 10}));
    EXPECT_TRUE(effects.asked.empty());
    read(13, {change_of(mailbox(2), {1, 3})});
    EXPECT_TRUE(effects.asked.empty());
}

TEST_F(FollowTest, AnAccountThatAWorkerCannotOpenStops) {
    read(11, {change_of(mailbox(1), {1, 3})});
    effects.reply(Reply{.verdict = Verdict::failed, .text = "no such user"});
    EXPECT_EQ(follow->phase(), DestinationPhase::stopped);
}

TEST_F(FollowTest, ALostWorkersBatchIsSentAgainAndItsLateAnswerIsVoid) {
    read(11, {change_of(mailbox(1), {1, 3})});
    auto lost = effects.asked.front();
    effects.asked.pop_front();
    follow->worker_lost(now);
    EXPECT_EQ(effects.expect_request<Apply>().changes.size(), 1u);
    lost.done(Reply{.verdict = Verdict::retry});
    EXPECT_EQ(effects.asked.size(), 1u);
    effects.reply({Verdict::skipped});
    EXPECT_EQ(follow->applied(), (Number{1, 11}));
}

TEST_F(FollowTest, ACollectionIsReadInOrderBuiltAndHoldsTheStorablePosition) {
    begin({{1, 10}, false, {mailbox(1)}});
    open_collection(11);
    EXPECT_EQ(follow->applied(), (Number{1, 11}));
    EXPECT_EQ(follow->storable(), (Number{1, 10}));
    EXPECT_EQ(follow->oldest_needed()->second, 100);
    EXPECT_EQ(state().wanted, Objects{}) << "it is on its way";
    EXPECT_EQ(follow->phase(), DestinationPhase::following);

    read_bulk(part(0));
    EXPECT_EQ(effects.expect_request<Collect>().bulk, encode(part(0)));
    read_bulk(part(0)); // produced twice
    read(12, {change_of(mailbox(1), {1, 11})});
    read_bulk(part(1, true));
    effects.reply(Reply{});
    EXPECT_EQ(effects.expect_request<Apply>().changes.size(), 1u);
    effects.reply({Verdict::applied});
    EXPECT_EQ(state().mails_done, 1u);
    EXPECT_EQ(state().mails_total, 2u);
    EXPECT_EQ(effects.expect_request<Collect>().bulk, encode(part(1, true)));
    effects.reply(Reply{});
    auto build = effects.expect_request<Build>();
    EXPECT_EQ(build.object, mailbox(1));
    EXPECT_EQ(build.snapshot, id);
    EXPECT_EQ(build.number, (Number{1, 11}));
    EXPECT_EQ(follow->storable(), (Number{1, 10}));
    effects.reply(Reply{.verdict = Verdict::retry});
    pass(200ms);
    effects.expect_request<Build>();
    effects.reply(Reply{});
    EXPECT_EQ(follow->storable(), (Number{1, 12}));
    EXPECT_EQ(follow->phase(), DestinationPhase::complete);
    EXPECT_EQ(state().mails_done, 2u);
}

TEST_F(FollowTest, AMissingPartDropsTheCollection) {
    open_collection(11);
    read_bulk(part(1));
    EXPECT_TRUE(effects.asked.empty());
    EXPECT_EQ(state().wanted, Objects{mailbox(1)});
    EXPECT_EQ(follow->storable(), (Number{1, 11}));
    read_bulk(part(0));
    EXPECT_TRUE(effects.asked.empty()) << "nobody collects it any more";
}

TEST_F(FollowTest, AFailedBuildLeavesTheMailboxWanted) {
    open_collection(11);
    Bulk whole = part(0, true);
    read_bulk(whole);
    effects.reply(Reply{});
    effects.reply(Reply{.verdict = Verdict::failed, .text = "the digest is another"});
    EXPECT_EQ(state().wanted, Objects{mailbox(1)});
    EXPECT_NE(state().reason.find("digest"), std::string::npos);
    EXPECT_EQ(follow->storable(), (Number{1, 11}));
}

TEST_F(FollowTest, ASnapshotThatIsContainedEndsTheWish) {
    begin({{1, 10}, false, {mailbox(1)}});
    read_snapshot(11, mailbox(1));
    effects.reply({Verdict::skipped});
    EXPECT_EQ(follow->phase(), DestinationPhase::complete);
    read_bulk(part(0));
    EXPECT_TRUE(effects.asked.empty());
}

TEST_F(FollowTest, ANewerSnapshotReplacesAnOpenCollection) {
    open_collection(11);
    id = SnapshotId::from("another snapshot's id");
    open_collection(12);
    EXPECT_EQ(follow->storable(), (Number{1, 11}));
    read_bulk(part(0));
    effects.expect_request<Collect>();
}

TEST_F(FollowTest, NoBulkComesBehindAFence) {
    open_collection(11);
    follow->fenced(now);
    EXPECT_EQ(state().wanted, Objects{mailbox(1)});
    EXPECT_EQ(follow->storable(), (Number{1, 11}));
}

TEST_F(FollowTest, NoBulkComesFromAnEndedLifeOfTheSource) {
    open_collection(11);
    life = second_life;
    read(12, {change_of(mailbox(2), {1, 3})});
    EXPECT_EQ(state().wanted, Objects{mailbox(1)});
}

TEST_F(FollowTest, ACollectionWithoutBulkForAMinuteIsDropped) {
    open_collection(11);
    ASSERT_TRUE(follow->deadline());
    follow->tick(now = *follow->deadline());
    EXPECT_EQ(state().wanted, Objects{mailbox(1)});
}

TEST_F(FollowTest, ALostWorkerTakesItsCollectionsWithIt) {
    open_collection(11);
    read_bulk(part(0));
    follow->worker_lost(now);
    EXPECT_EQ(state().wanted, Objects{mailbox(1)});
    EXPECT_EQ(follow->storable(), (Number{1, 11}));
    EXPECT_TRUE(follow->idle());
}

TEST_F(FollowTest, ADeletedMailboxIsNotWanted) {
    begin({{1, 10}, false, {mailbox(1)}});
    read(11, {Change{list_object(), ChangeKind::list_delete, guid(1), {1, 2}, "delete"}});
    effects.reply({Verdict::applied});
    EXPECT_EQ(follow->phase(), DestinationPhase::complete);
}

TEST_F(FollowTest, ANewDestinationWantsWhatTheListSnapshotMade) {
    begin({{1, 10}, true, {}});
    EXPECT_EQ(follow->phase(), DestinationPhase::initial);
    EXPECT_TRUE(state().wants_everything);
    read(11, {Change{list_object(), ChangeKind::list_snapshot, {}, {}, encode(ListSnapshot{})}});
    read(12, {change_of(mailbox(1), {1, 3})});
    effects.reply({Verdict::applied});
    EXPECT_EQ(follow->applied(), (Number{1, 10})) << "a crash here must look again";
    effects.expect_request<Inspect>();
    AccountFacts facts;
    facts.objects = {{list_object(), {}, {{1, 11}}},
                     {mailbox(1), {"INBOX"}, {}},
                     {mailbox(2), {"a"}, {{1, 7}}},
                     {mailbox(3), {"b"}, {{1, 11}}}};
    effects.reply(Reply{.facts = facts});
    EXPECT_EQ(follow->applied(), (Number{1, 11}));
    EXPECT_EQ(state().wanted, (Objects{mailbox(1), mailbox(2)}))
        << "2 is of a former life: what came since is not known";
    EXPECT_FALSE(state().wants_everything);
    EXPECT_EQ(follow->phase(), DestinationPhase::initial);
    effects.reply({Verdict::wanted});
    open_collection(13);
    read_bulk(part(0, true));
    effects.reply(Reply{});
    effects.reply(Reply{});
    EXPECT_EQ(state().wanted, Objects{mailbox(2)});
    read(14, {Change{mailbox(2), ChangeKind::snapshot, {}, {1, 7}, encode(SnapshotChange{})}});
    effects.reply({Verdict::applied}); // its mark was the one before
    EXPECT_EQ(follow->phase(), DestinationPhase::complete);
}

TEST_F(FollowTest, AnOpenMovesThePositionIntoItsEpoch) {
    Entry open{place, offset, {}, {2, 0}, life, {}};
    open.record.kind = RecordKind::open;
    follow->counted(now, open);
    EXPECT_EQ(follow->applied(), (Number{2, 0}));
}

} // namespace
} // namespace replica
