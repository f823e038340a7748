#include "agentd/core/ship.hpp"
#include "tests/unit/core_effects.hpp"

namespace replica {
namespace {

using namespace std::chrono_literals;

const Place place{"replica.changes.a", 0};
const Session ours = Session::from("ourslife"), theirs = Session::from("formerli");
constexpr ClientId imap = 1, lmtp = 2, pop3 = 3;

class ShipTest : public testing::Test {
protected:
    ShipTest() { ship.open(now, {1, 10}, place); }

    void offer(ClientId client, uint64_t request, Change change) {
        ship.change(now, client, {request, "u", std::move(change)});
    }
    void ask(ClientId client, uint64_t request, Object object, Mark mark) {
        ship.clear(now, client, {request, "u", std::move(object), mark});
    }
    void read_back(const RecordedEffects::Produced &produced, Session session = ours) {
        ship.counted(now, {place, offset++, {}, produced.number, session, produced.record});
    }
    void read_foreign(Number number, std::vector<Change> changes, Session session = theirs) {
        ship.counted(now, {place, offset++, {}, number, session, Record{.changes = std::move(changes)}});
    }
    // A change of `object` that was acknowledged; DONE is still to come.
    Number acknowledged(ClientId client, uint64_t request, Change change) {
        offer(client, request, std::move(change));
        read_back(effects.next_produced());
        return effects.next_sent<Ack>(client).number;
    }
    void pass(std::chrono::milliseconds time) { ship.tick(now += time); }
    Reason refused(ClientId client) { return effects.next_sent<Refused>(client).reason; }
    Reason answered(ClientId client) { return effects.next_sent<Answer>(client).reason; }
    void expect_quiet() { EXPECT_TRUE(effects.sent.empty()); }

    RecordedEffects effects;
    Ship ship{"u", {}, {.ack_timeout = 5s, .record_bytes_max = 1000, .session = ours}, effects};
    Time now{1000s};
    int64_t offset = 100;
};

TEST_F(ShipTest, AcknowledgesOnlyWhatItHasReadBack) {
    offer(imap, 7, change_of(mailbox(1), {1, 4}));
    auto produced = effects.next_produced();
    EXPECT_EQ(produced.number, (Number{1, 11}));
    EXPECT_EQ(produced.place, place);
    expect_quiet();
    read_back(produced);
    auto ack = effects.next_sent<Ack>(imap);
    EXPECT_EQ(ack.request, 7u);
    EXPECT_EQ(ack.number, (Number{1, 11}));
    EXPECT_EQ(effects.settled_numbers, std::vector{produced.number});
}

TEST_F(ShipTest, ForeignRecordWithOurNumberCountsAndOursGetsTheNext) {
    offer(imap, 7, change_of(mailbox(1), {1, 4}));
    auto ours_first = effects.next_produced();
    read_foreign({1, 11}, {change_of(mailbox(2), {1, 3})});
    expect_quiet();
    EXPECT_EQ(effects.settled_numbers, std::vector{ours_first.number}) << "the old bytes are not produced again";
    auto again = effects.next_produced();
    EXPECT_EQ(again.number, (Number{1, 12}));
    EXPECT_EQ(again.record, ours_first.record);
    read_back(again);
    EXPECT_EQ(effects.next_sent<Ack>(imap).number, (Number{1, 12}));
    EXPECT_EQ(effects.expect_request<Apply>().changes.front().number, (Number{1, 11}));
}

TEST_F(ShipTest, ForeignRecordThatNamesTheObjectRefusesItsPendingChange) {
    offer(imap, 7, change_of(mailbox(1), {1, 4}));
    offer(lmtp, 1, change_of(mailbox(2), {1, 5}));
    effects.next_produced();
    read_foreign({1, 11}, {change_of(mailbox(1), {1, 4}, "a former life's")});
    EXPECT_EQ(refused(imap), Reason::behind);
    auto next = effects.next_produced();
    EXPECT_EQ(next.number, (Number{1, 12}));
    ASSERT_EQ(next.record.changes.size(), 1u);
    EXPECT_EQ(next.record.changes[0].object, mailbox(2));
    EXPECT_EQ(effects.expect_request<Apply>().changes.at(0).change.payload, "a former life's");
}

TEST_F(ShipTest, TheSameContentFromAnotherSessionIsNotOurs) {
    offer(imap, 7, change_of(mailbox(1), {1, 4}));
    read_back(effects.next_produced(), theirs);
    EXPECT_EQ(refused(imap), Reason::behind);
}

TEST_F(ShipTest, OtherContentFromOurSessionIsNotAcknowledged) {
    offer(imap, 7, change_of(mailbox(1), {1, 4}));
    effects.next_produced();
    read_foreign({1, 11}, {change_of(mailbox(1), {1, 4}, "other")}, ours);
    EXPECT_EQ(refused(imap), Reason::behind);
}

TEST_F(ShipTest, WhatWaitsGoesTogetherTheListLast) {
    offer(imap, 1, change_of(mailbox(1), {1, 4}));
    offer(lmtp, 2, change_of(list_object(), {1, 2}));
    offer(pop3, 3, change_of(mailbox(2), {1, 3}));
    auto first = effects.next_produced();
    EXPECT_TRUE(effects.produced.empty()) << "one unsettled record";
    read_back(first);
    auto second = effects.next_produced();
    ASSERT_EQ(second.record.changes.size(), 2u);
    EXPECT_EQ(second.record.changes[0].object, mailbox(2));
    EXPECT_TRUE(second.record.changes[1].object.is_list());
}

TEST_F(ShipTest, ANewerChangeOfAnObjectDiscardsTheOlderThatWaits) {
    offer(imap, 1, change_of(mailbox(1), {1, 4}));
    offer(lmtp, 2, change_of(mailbox(2), {1, 3}, "older"));
    offer(pop3, 3, change_of(mailbox(2), {1, 3}, "newer"));
    EXPECT_EQ(refused(lmtp), Reason::busy);
    read_back(effects.next_produced());
    effects.next_sent<Ack>(imap);
    auto second = effects.next_produced();
    ASSERT_EQ(second.record.changes.size(), 1u);
    EXPECT_EQ(second.record.changes[0].payload, "newer");
}

TEST_F(ShipTest, ARecordTakesWhatFitsAndTheRestWaits) {
    offer(imap, 1, change_of(mailbox(1), {1, 4}));
    offer(lmtp, 2, change_of(mailbox(2), {1, 3}, std::string(400, 'x')));
    offer(pop3, 3, change_of(mailbox(3), {1, 3}, std::string(400, 'x')));
    read_back(effects.next_produced());
    auto second = effects.next_produced();
    EXPECT_EQ(second.record.changes.size(), 1u);
    EXPECT_LE(effects.sealed_size(second.record), 1000u);
    read_back(second);
    EXPECT_EQ(effects.next_produced().record.changes.at(0).object, mailbox(3));
}

TEST_F(ShipTest, AChangeBeyondTheLimitIsRefusedAndTheNumberStaysFree) {
    offer(imap, 1, change_of(mailbox(1), {1, 4}, std::string(2000, 'x')));
    EXPECT_EQ(refused(imap), Reason::too_large);
    offer(imap, 2, change_of(mailbox(1), {1, 4}));
    EXPECT_EQ(effects.next_produced().number, (Number{1, 11}));
}

TEST_F(ShipTest, AMarkThatIsNotTheLastNumberIsRefusedAndRolledForward) {
    acknowledged(imap, 1, change_of(mailbox(1), {1, 4}, "eleven"));
    offer(lmtp, 1, change_of(mailbox(1), {1, 4}));
    EXPECT_EQ(refused(lmtp), Reason::behind);
    auto apply = effects.expect_request<Apply>();
    ASSERT_EQ(apply.changes.size(), 1u);
    EXPECT_EQ(apply.changes[0].number, (Number{1, 11}));
    EXPECT_EQ(apply.changes[0].change.payload, "eleven");
    EXPECT_EQ(ship.settled(), (Number{1, 10}));
    effects.reply({Verdict::applied});
    EXPECT_EQ(ship.settled(), (Number{1, 11}));
    offer(lmtp, 2, change_of(mailbox(1), {1, 11}));
    EXPECT_EQ(effects.next_produced().number, (Number{1, 12}));
}

TEST_F(ShipTest, AMailboxWithoutAMarkMustBeSnapshottedFirst) {
    offer(imap, 1, change_of(mailbox(1), {}));
    EXPECT_EQ(refused(imap), Reason::behind);
    EXPECT_TRUE(effects.produced.empty());
    Change snapshot{mailbox(1), ChangeKind::snapshot, {}, {}, encode(SnapshotChange{})};
    offer(imap, 2, snapshot);
    EXPECT_EQ(effects.next_produced().record.changes.at(0), snapshot);
}

TEST_F(ShipTest, ChangesWhoseClientIsGoneAreRolledForwardBeforeTheObjectIsClear) {
    acknowledged(imap, 1, change_of(mailbox(1), {1, 4}));
    ask(lmtp, 1, mailbox(1), {{1, 4}});
    EXPECT_EQ(answered(lmtp), Reason::none) << "somebody is just committing: no reason to wait";
    ship.client_gone(now, imap);
    ask(lmtp, 2, mailbox(1), {{1, 4}});
    ask(pop3, 3, mailbox(2), {{1, 4}});
    EXPECT_EQ(answered(pop3), Reason::none) << "another object is not held up";
    expect_quiet();
    effects.reply({Verdict::retry});
    expect_quiet();
    EXPECT_TRUE(effects.asked.empty());
    pass(200ms);
    effects.reply({Verdict::skipped});
    EXPECT_EQ(answered(lmtp), Reason::none);
    EXPECT_TRUE(ship.idle());
}

TEST_F(ShipTest, AChangeThatCountsAfterItsClientIsGoneIsInDoubt) {
    offer(imap, 1, change_of(mailbox(1), {1, 4}));
    auto produced = effects.next_produced();
    ship.client_gone(now, imap);
    ask(lmtp, 2, mailbox(1), {{1, 4}});
    expect_quiet();
    read_back(produced);
    expect_quiet();
    effects.expect_request<Apply>();
    effects.reply({Verdict::applied});
    EXPECT_EQ(answered(lmtp), Reason::none);
}

TEST_F(ShipTest, AVoidChangeOfAGoneClientIsForgotten) {
    offer(imap, 1, change_of(mailbox(1), {1, 4}));
    effects.next_produced();
    ship.client_gone(now, imap);
    read_foreign({1, 11}, {change_of(mailbox(2), {1, 3})});
    EXPECT_TRUE(effects.produced.empty());
    offer(lmtp, 1, change_of(mailbox(1), {1, 4}));
    EXPECT_EQ(effects.next_produced().number, (Number{1, 12}));
}

TEST_F(ShipTest, AFailedCommitIsRolledForward) {
    acknowledged(imap, 1, change_of(mailbox(1), {1, 4}));
    ship.done(now, imap, {1, false});
    EXPECT_EQ(effects.expect_request<Apply>().changes.size(), 1u);
}

TEST_F(ShipTest, AConfirmedCommitIsNot) {
    acknowledged(imap, 1, change_of(mailbox(1), {1, 4}));
    EXPECT_FALSE(ship.idle());
    ship.done(now, imap, {1, true});
    ship.client_gone(now, imap);
    EXPECT_TRUE(effects.asked.empty());
    EXPECT_TRUE(ship.idle());
    EXPECT_EQ(ship.settled(), (Number{1, 11}));
}

TEST_F(ShipTest, ALaterChangeOnItsNumberProvesTheCommit) {
    auto number = acknowledged(imap, 1, change_of(mailbox(1), {1, 4}));
    offer(lmtp, 1, change_of(mailbox(1), number));
    ship.client_gone(now, imap);
    EXPECT_TRUE(effects.asked.empty());
    EXPECT_EQ(ship.settled(), number);
}

TEST_F(ShipTest, AnObjectThatCannotBeRolledForwardStopsItselfOnly) {
    acknowledged(imap, 1, change_of(mailbox(1), {1, 4}));
    acknowledged(imap, 2, change_of(mailbox(2), {1, 4}));
    ship.client_gone(now, imap); // one request is under way, the other follows
    ask(lmtp, 1, mailbox(1), {{1, 4}});
    ask(lmtp, 2, mailbox(2), {{1, 4}});
    effects.reply({Verdict::diverged, Verdict::applied});
    EXPECT_EQ(answered(lmtp), Reason::stopped);
    EXPECT_EQ(answered(lmtp), Reason::none);
    offer(lmtp, 3, change_of(mailbox(1), {1, 4}));
    EXPECT_EQ(refused(lmtp), Reason::stopped);
    EXPECT_NE(ship.problem().find("the log never had"), std::string::npos);
    EXPECT_EQ(ship.settled(), (Number{1, 10}));
}

TEST_F(ShipTest, WhatStoppedIsTriedAgainByItself) {
    auto number = acknowledged(imap, 1, change_of(mailbox(1), {1, 4}));
    ship.client_gone(now, imap);
    effects.reply({Verdict::failed});
    EXPECT_FALSE(ship.problem().empty());
    pass(30s);
    EXPECT_TRUE(effects.asked.empty());
    EXPECT_EQ(ship.deadline(), now + 30s);
    pass(31s);
    effects.reply({Verdict::failed});
    EXPECT_EQ(effects.logged.size(), 1u) << "the same reason is said once";
    pass(61s);
    effects.reply({Verdict::applied});
    EXPECT_TRUE(ship.problem().empty());
    ask(lmtp, 2, mailbox(1), {number});
    EXPECT_EQ(answered(lmtp), Reason::none);
}

TEST_F(ShipTest, WhatStandsBehindADivergedChangeGoesOnAtOnce) {
    acknowledged(imap, 1, change_of(mailbox(1), {1, 4}));
    acknowledged(imap, 2, change_of(mailbox(2), {1, 4}));
    ship.client_gone(now, imap);
    effects.reply({Verdict::diverged});
    EXPECT_EQ(effects.expect_request<Apply>().changes.at(0).change.object, mailbox(2));
}

TEST_F(ShipTest, ALostIndexIsNeverTakenForTheTruth) {
    acknowledged(imap, 1, change_of(mailbox(1), {1, 4}));
    ship.done(now, imap, {1, true});
    ask(lmtp, 1, mailbox(1), {});
    EXPECT_EQ(answered(lmtp), Reason::none);
    offer(lmtp, 2, change_of(mailbox(1), {}));
    EXPECT_EQ(refused(lmtp), Reason::behind);
    offer(lmtp, 3, Change{mailbox(1), ChangeKind::snapshot, {}, {}, "id"});
    EXPECT_EQ(refused(lmtp), Reason::behind);
    EXPECT_TRUE(effects.asked.empty());
}

TEST_F(ShipTest, ALostWorkerIsAskedAgain) {
    acknowledged(imap, 1, change_of(mailbox(1), {1, 4}));
    ship.client_gone(now, imap);
    effects.reply(Reply{.verdict = Verdict::retry});
    EXPECT_TRUE(effects.asked.empty());
    ASSERT_TRUE(ship.deadline());
    ship.tick(now = *ship.deadline());
    effects.expect_request<Apply>();
}

TEST_F(ShipTest, ANewMailboxHasTheNumberOfItsCreate) {
    Change create{list_object(), ChangeKind::list_create, guid(9), {1, 2}, "create"};
    auto number = acknowledged(imap, 1, create);
    ask(lmtp, 1, mailbox(9), {});
    expect_quiet(); // its first mark is on the way
    ship.done(now, imap, {1, true});
    EXPECT_EQ(answered(lmtp), Reason::none);
    offer(lmtp, 2, change_of(mailbox(9), {1, 3}));
    EXPECT_EQ(refused(lmtp), Reason::behind);
    offer(lmtp, 3, change_of(mailbox(9), number));
    EXPECT_EQ(effects.next_produced().number, (Number{1, 12}));
}

TEST_F(ShipTest, AMailboxIsNotRolledForwardBeforeItsCreate) {
    Change create{list_object(), ChangeKind::list_create, guid(9), {1, 2}, "create"};
    auto number = acknowledged(imap, 1, create);
    acknowledged(lmtp, 2, change_of(mailbox(9), number));
    ship.client_gone(now, lmtp);
    EXPECT_TRUE(effects.asked.empty()) << "its create is being committed";
    ship.client_gone(now, imap);
    EXPECT_EQ(effects.expect_request<Apply>().changes.size(), 2u);
}

TEST_F(ShipTest, OnceADeleteHasItsNumberTheMailboxTakesNoChange) {
    acknowledged(imap, 1, change_of(mailbox(9), {1, 4}));
    ship.client_gone(now, imap); // in doubt, but the delete makes it moot
    offer(lmtp, 1, Change{list_object(), ChangeKind::list_delete, guid(9), {1, 2}, "delete"});
    auto deleted = effects.next_produced();
    offer(pop3, 2, change_of(mailbox(9), {1, 11}));
    EXPECT_EQ(refused(pop3), Reason::deleted);
    read_back(deleted);
    effects.next_sent<Ack>(lmtp);
    ask(pop3, 3, mailbox(9), {{1, 11}});
    EXPECT_EQ(answered(pop3), Reason::deleted);
    effects.reply({Verdict::wanted}); // the roll-forward came too late
    EXPECT_EQ(ship.problem(), "");
    ship.done(now, lmtp, {1, true});
    EXPECT_TRUE(ship.idle());
}

TEST_F(ShipTest, WhatIsNotSealedWithinHalfTheTimeoutIsRefusedForCertain) {
    offer(imap, 1, change_of(mailbox(1), {1, 4}));
    offer(lmtp, 2, change_of(mailbox(2), {1, 3}));
    auto first = effects.next_produced();
    ASSERT_TRUE(ship.deadline());
    EXPECT_EQ(*ship.deadline(), now + 2500ms);
    pass(2500ms);
    EXPECT_EQ(refused(lmtp), Reason::unavailable);
    expect_quiet(); // the sealed one is in doubt: its client's own timeout speaks
    read_back(first);
    EXPECT_TRUE(effects.produced.empty());
}

TEST_F(ShipTest, AnOutageRefusesAtOnce) {
    offer(imap, 1, change_of(mailbox(1), {1, 4}));
    offer(lmtp, 2, change_of(mailbox(2), {1, 3}));
    ship.outage(now, true);
    EXPECT_EQ(refused(lmtp), Reason::unavailable);
    offer(lmtp, 3, change_of(mailbox(2), {1, 3}));
    EXPECT_EQ(refused(lmtp), Reason::unavailable);
    ask(lmtp, 4, mailbox(2), {{1, 3}});
    EXPECT_EQ(answered(lmtp), Reason::unavailable);
    ship.outage(now, false);
    read_back(effects.next_produced());
    effects.next_sent<Ack>(imap);
    offer(lmtp, 5, change_of(mailbox(2), {1, 3}));
    EXPECT_EQ(effects.next_produced().number, (Number{1, 12}));
}

TEST_F(ShipTest, AnUnmarkedMailboxIsClearOnceItsSnapshotIsDone) {
    ask(imap, 1, mailbox(1), {});
    ask(lmtp, 2, mailbox(1), {});
    EXPECT_EQ(effects.expect_request<SnapshotMailbox>(true).object, mailbox(1));
    EXPECT_EQ(effects.asked.size(), 1u) << "one snapshot of an object at a time";
    acknowledged(pop3, 1, Change{mailbox(1), ChangeKind::snapshot, {}, {}, "id"});
    expect_quiet();
    ship.done(now, pop3, {1, true});
    EXPECT_EQ(answered(imap), Reason::none) << "while its bulk still streams";
    EXPECT_EQ(answered(lmtp), Reason::none);
    EXPECT_FALSE(ship.idle());
    effects.reply(Reply{.verdict = Verdict::applied});
    EXPECT_TRUE(ship.idle());
}

TEST_F(ShipTest, AnUnloggedObjectIsSnapshottedToo) {
    ask(imap, 1, mailbox(1), {{1, 4}, true});
    effects.expect_request<SnapshotMailbox>(true);
    ask(imap, 2, list_object(), {{1, 4}, true});
    EXPECT_EQ(effects.asked.size(), 2u);
    EXPECT_TRUE(std::holds_alternative<SnapshotList>(effects.asked[1].request));
}

TEST_F(ShipTest, AnIndexMadeAnewIsSnapshottedWhateverTheLogHas) {
    acknowledged(imap, 1, change_of(mailbox(1), {1, 4}));
    ship.client_gone(now, imap);
    effects.expect_request<Apply>();
    effects.reply({Verdict::wanted});
    ask(lmtp, 1, mailbox(1), {{1, 4}});
    EXPECT_EQ(answered(lmtp), Reason::stopped);
    ask(lmtp, 2, mailbox(1), {{}, true});
    effects.expect_request<SnapshotMailbox>(true);
    EXPECT_TRUE(ship.unlogged().contains(mailbox(1)));
    acknowledged(pop3, 1, Change{mailbox(1), ChangeKind::snapshot, {}, {}, encode(SnapshotChange{{}, true})});
    ship.done(now, pop3, {1, true});
    EXPECT_EQ(answered(lmtp), Reason::none);
    EXPECT_TRUE(ship.unlogged().empty());
    EXPECT_EQ(ship.problem(), "");
    EXPECT_EQ(ship.settled(), (Number{1, 12}));
}

TEST_F(ShipTest, AMarkReadBeforeTheSnapshotAsksForNoOther) {
    acknowledged(pop3, 1, Change{mailbox(1), ChangeKind::snapshot, {}, {1, 4}, "id"});
    ship.done(now, pop3, {1, true});
    ask(imap, 1, mailbox(1), {{1, 4}, true});
    EXPECT_EQ(answered(imap), Reason::none);
    EXPECT_TRUE(effects.asked.empty());
}

TEST_F(ShipTest, AFailedSnapshotIsSaidAndTriedAgainAtTheNextQuestion) {
    ask(imap, 1, mailbox(1), {});
    effects.reply(Reply{.verdict = Verdict::failed, .text = "a corrupt index"});
    EXPECT_EQ(answered(imap), Reason::stopped);
    ask(imap, 2, mailbox(1), {});
    effects.expect_request<SnapshotMailbox>(true);
}

TEST_F(ShipTest, WhatADestinationWantsIsSnapshottedUntilItWasTaken) {
    ship.snapshot(now, mailbox(1));
    ship.snapshot(now, mailbox(1));
    EXPECT_EQ(effects.asked.size(), 1u);
    effects.reply(Reply{.verdict = Verdict::retry});
    EXPECT_TRUE(effects.asked.empty());
    ASSERT_TRUE(ship.deadline());
    ship.tick(now = *ship.deadline());
    effects.expect_request<SnapshotMailbox>(true);
}

TEST_F(ShipTest, ManyWantedSnapshotsAreTakenAFewAtATime) {
    for (uint8_t n = 1; n <= 20; ++n)
        ship.snapshot(now, mailbox(n));
    EXPECT_EQ(effects.asked.size(), 4u);
    effects.reply(Reply{.verdict = Verdict::applied});
    EXPECT_EQ(effects.asked.size(), 4u);
    ask(imap, 1, mailbox(20), {});
    EXPECT_EQ(effects.asked.size(), 5u) << "a client does not stand in that line";
}

TEST_F(ShipTest, AClearThatWaitsTooLongIsAnswered) {
    ask(imap, 1, mailbox(1), {});
    pass(2500ms);
    EXPECT_EQ(answered(imap), Reason::unavailable);
}

TEST_F(ShipTest, ClosedItRefusesEverything) {
    offer(imap, 1, change_of(mailbox(1), {1, 4}));
    auto produced = effects.next_produced();
    offer(lmtp, 2, change_of(mailbox(2), {1, 4}));
    ship.close(Reason::not_source, "promoted elsewhere");
    EXPECT_EQ(refused(imap), Reason::not_source);
    EXPECT_EQ(refused(lmtp), Reason::not_source);
    EXPECT_EQ(effects.settled_numbers.size(), 1u);
    read_back(produced);
    expect_quiet();
    ask(imap, 3, mailbox(1), {});
    EXPECT_EQ(answered(imap), Reason::not_source);
    offer(imap, 4, change_of(mailbox(1), {1, 4}));
    EXPECT_EQ(refused(imap), Reason::not_source);
    EXPECT_EQ(ship.settled(), (Number{1, 10}));
}

class ShipRestart : public ShipTest {
protected:
    Ship again{"u", {}, {.ack_timeout = 5s, .record_bytes_max = 1000, .session = ours}, effects};
    void feed(uint64_t sequence, Change change, Session session = theirs) {
        again.counted(now, {place, offset++, {}, {1, sequence}, session, Record{.changes = {std::move(change)}}});
    }
};

TEST_F(ShipRestart, EveryRecordThatIsFedIsRolledForwardInBatches) {
    for (uint64_t s = 11; s <= 310; ++s)
        feed(s, change_of(mailbox(s % 2 + 1), {1, s - 2}));
    EXPECT_TRUE(effects.asked.empty()) << "a delete further on may make it moot";
    again.clear(now, imap, {1, "u", mailbox(1), {{1, 8}}});
    again.clear(now, lmtp, {2, "u", mailbox(3), {{1, 8}}});
    expect_quiet();
    again.open(now, {1, 310}, place);
    EXPECT_EQ(answered(lmtp), Reason::none);
    auto first = effects.expect_request<Apply>();
    ASSERT_EQ(first.changes.size(), Unconfirmed::batch_max);
    EXPECT_EQ(first.changes.front().number, (Number{1, 11}));
    effects.reply(std::vector(first.changes.size(), Verdict::skipped));
    expect_quiet();
    auto second = effects.expect_request<Apply>();
    EXPECT_EQ(second.changes.size(), 100u);
    EXPECT_EQ(again.settled(), (Number{1, 210}));
    effects.reply(std::vector(second.changes.size(), Verdict::applied));
    EXPECT_EQ(answered(imap), Reason::none);
    EXPECT_EQ(again.settled(), (Number{1, 310}));
    EXPECT_FALSE(again.oldest_unsettled_offset());
}

TEST_F(ShipRestart, AChangeOnAnOlderMarkThanTheLogIsRefused) {
    feed(11, change_of(mailbox(1), {1, 4}));
    again.change(now, imap, {1, "u", change_of(mailbox(1), {1, 4})});
    EXPECT_EQ(refused(imap), Reason::unavailable);
    again.open(now, {1, 11}, place);
    again.change(now, imap, {2, "u", change_of(mailbox(1), {1, 4})});
    EXPECT_EQ(refused(imap), Reason::behind);
    again.change(now, imap, {3, "u", change_of(mailbox(1), {1, 11})});
    EXPECT_EQ(effects.next_produced().number, (Number{1, 12}));
}

TEST_F(ShipRestart, AnObjectThatMustBeTriedAgainDoesNotHoldUpOthers) {
    feed(11, change_of(mailbox(1), {1, 4}));
    feed(12, change_of(mailbox(2), {1, 4}));
    again.open(now, {1, 12}, place);
    effects.reply({Verdict::retry});
    auto rest = effects.expect_request<Apply>();
    ASSERT_EQ(rest.changes.size(), 1u);
    EXPECT_EQ(rest.changes[0].change.object, mailbox(2));
}

TEST_F(ShipRestart, FeedingIsHeldBackByMemory) {
    uint64_t s = 11;
    while (!again.full()) {
        feed(s, change_of(mailbox(1), {1, s - 1}));
        ++s;
    }
    EXPECT_EQ(effects.expect_request<Apply>().changes.size(), Unconfirmed::batch_max);
}

} // namespace
} // namespace replica
