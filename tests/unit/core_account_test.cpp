// An account's whole life over real Ship, Follow and LogReader: it becomes source and destination as the control log
// says, dies at each step, and neither loses what was acknowledged nor stores a position beyond its indexes.
#include "tests/unit/account_site.hpp"

namespace replica::test {
namespace {

const Object inbox = mailbox(1), other = mailbox(2), list = list_object();

class AccountTest : public testing::Test {
protected:
    World world;
    Site a{world, "a"}, b{world, "b"};

    // --- the control log
    void decide(AccountState state, const std::string &source, std::vector<std::string> destinations) {
        world.record.account = "u";
        world.record.version++;
        world.record.state = state;
        world.record.source = source;
        world.record.destinations.clear();
        for (auto &store : destinations)
            world.record.destinations.push_back({store, static_cast<uint32_t>(world.record.destinations.size())});
        for (auto *site : {&a, &b})
            if (site->account) site->tell();
    }
    void set_first() { // a new account on a, with b as destination
        world.record.epoch = 1;
        world.record.places = {{1, a.place(), world.end(a.place()), 0}};
        decide(AccountState::active, "a", {"b"});
    }
    void settle() {
        for (bool moved = true; moved;) {
            moved = false;
            for (auto *site : {&a, &b})
                if (site->account)
                    while (site->step())
                        moved = true;
            for (auto *site : {&a, &b})
                if (site->account) {
                    site->account->tick(world.now);
                    moved |= site->step();
                }
        }
    }
    void tell_wants(Site &source, Site &destination) {
        for (int i = 0; i < 5; i++) {
            source.account->destination_state(world.now, destination.state());
            source.account->inspect([] {}); // as the host does when it was asked to
            settle();
        }
    }
    void begin() { // a is source with an INBOX of one change, b complete
        a.memory.boxes[list] = {};
        a.memory.boxes[inbox].content = {"old mail"};
        a.start();
        b.start();
        set_first();
        settle();
        tell_wants(a, b);
        ASSERT_EQ(b.state().phase, DestinationPhase::complete) << b.state().reason;
        ASSERT_EQ(a.change(inbox, "one"), Reason::none);
        settle();
        ASSERT_EQ(b.memory.boxes[inbox], a.memory.boxes[inbox]);
    }
    // --- a promotion, in its steps
    void propose(Site &to, Site &from) {
        world.record.epoch++;
        world.record.places.push_back({world.record.epoch, to.place(), world.end(to.place()), 0});
        decide(AccountState::promoting, to.store(), {from.store()});
    }
    void fence() {
        std::set<Place> places;
        for (auto &at : world.record.places)
            if (at.epoch < world.record.epoch) places.insert(at.place);
        for (auto &place : places)
            world.fence(place, world.record.epoch);
    }
    void open(Site &to) {
        settle();
        ASSERT_GE(to.account->crossed_epoch(), world.record.epoch) << "the fence was not read";
        ASSERT_TRUE(to.account->follow() && to.account->follow()->idle()) << "not drained";
        world.open(world.record.places.back().place, world.record.epoch, to.account->position());
    }
    void activate(Site &to, Site &from) {
        decide(AccountState::active, to.store(), {from.store()});
        settle();
        ASSERT_TRUE(to.account->ship()) << to.state().reason;
    }
    void promote(Site &to, Site &from) {
        propose(to, from);
        fence();
        open(to);
        activate(to, from);
    }
    void flush_checked(Site &site) {
        site.flush();
        check_stored(site);
    }
    // Every change that counts up to the stored position is in the durable index, or its object is wanted.
    void check_stored(const Site &site) {
        auto stored = site.stored();
        if (!stored || stored->wants_everything) return;
        for (auto &[place, log] : world.logs)
            for (auto &entry : log) {
                if (entry.record.kind != RecordKind::changes || entry.number > stored->position) continue;
                for (auto &change : entry.record.changes) {
                    if (std::ranges::find(stored->wanted, change.object) != stored->wanted.end()) continue;
                    auto box = site.disk.boxes.find(change.object);
                    ASSERT_TRUE(box != site.disk.boxes.end() && box->second.mark.number >= entry.number)
                        << site.store() << " stored " << to_string(stored->position) << ", but "
                        << to_string(entry.number) << " is not in its index";
                }
            }
    }
    void expect_equal() {
        EXPECT_EQ(a.memory.boxes[inbox], b.memory.boxes[inbox]);
        EXPECT_EQ(a.memory.boxes[list].mark.number, b.memory.boxes[list].mark.number);
        for (auto &[object, payload] : world.acknowledged)
            for (auto *site : {&a, &b})
                EXPECT_EQ(std::ranges::count(site->memory.boxes[object].content, payload), 1)
                    << payload << " on " << site->store();
    }
    void restart(Site &site) {
        site.kill();
        site.start();
        settle();
    }
};

TEST_F(AccountTest, ANewSourceWritesItsOpenOnce) {
    a.delivers = false;
    a.start();
    set_first();
    settle();
    a.account->caught_up(world.now, a.place());
    a.delivers = true;
    settle();
    ASSERT_EQ(world.logs[a.place()].size(), 1u);
    EXPECT_EQ(world.logs[a.place()][0].record.kind, RecordKind::open);
    EXPECT_EQ(world.logs[a.place()][0].record.open->place, a.place());
    EXPECT_EQ(a.role, Role::source);
    EXPECT_EQ(a.inspects, 1) << "what was committed past the log is looked for";
    restart(a);
    EXPECT_EQ(world.logs[a.place()].size(), 1u) << "nor after a restart";
    EXPECT_TRUE(a.account->ship());
}

TEST_F(AccountTest, AnAccountThatIsRemovedBeforeItsOpenProducesNoMore) {
    a.delivers = false;
    a.start();
    set_first();
    a.step(), a.step();
    settle();
    decide(AccountState::removed, "a", {});
    settle();
    EXPECT_NE(std::ranges::find(a.settled_numbers, (Number{1, 0})), a.settled_numbers.end());
}

TEST_F(AccountTest, ASourceGoesOnAfterARestartAtAnyPoint) {
    begin();
    for (int round = 0; round < 12; round++) {
        if (round % 3 == 0) flush_checked(a);
        a.mail_processes_live = round % 4 != 3; // acknowledged, and the process died before its commit
        a.change(inbox, "round " + std::to_string(round));
        if (round % 4 == 3) world.acknowledged.emplace_back(inbox, "round " + std::to_string(round));
        a.mail_processes_live = true;
        if (round % 2 == 0) flush_checked(a);
        round % 5 == 4 ? a.lose_power() : a.kill();
        a.start();
        for (int steps = 0; steps < round; steps++)
            a.step();
        flush_checked(a);
        settle();
        EXPECT_EQ(a.clear(inbox), Reason::none) << round;
        flush_checked(b);
    }
    settle();
    expect_equal();
}

TEST_F(AccountTest, AStartForADestinationAfterARestartIsNotTheLogsBeginning) {
    begin();
    flush_checked(a);
    restart(a);
    EXPECT_EQ(a.account->next_offset(), world.end(a.place()));
    EXPECT_EQ(a.account->position(), (Number{1, world.logs[a.place()].back().number.sequence}));
}

TEST_F(AccountTest, AReplacedSourceAppliesWhatItAcknowledgedAndFollows) {
    begin();
    a.mail_processes_live = false;
    a.change(inbox, "acknowledged, not committed");
    world.acknowledged.emplace_back(inbox, "acknowledged, not committed");
    a.mail_processes_live = true;
    promote(b, a);
    EXPECT_EQ(a.role, Role::destination);
    ASSERT_EQ(b.change(inbox, "of b"), Reason::none);
    settle();
    expect_equal();
    EXPECT_EQ(a.change(inbox, "too late"), Reason::not_source);
    flush_checked(a);
    flush_checked(b);
}

TEST_F(AccountTest, WhatStandsBehindTheFenceIsVoidAlsoWhenReadAgain) {
    begin();
    propose(b, a);
    a.mail_processes_live = false;
    a.change(inbox, "before the fence");
    world.acknowledged.emplace_back(inbox, "before the fence");
    a.mail_processes_live = true;
    fence();
    uint64_t sequence = a.account->position().sequence;
    for (uint64_t n = 1; n <= 3; n++) { // on their way when the fence came
        Entry late{a.place(), 0, account_key, {1, sequence + n}, {}, {}};
        late.record.changes = {change_of(inbox, {1, sequence + n - 1}, "void")};
        world.append(a.place(), late);
    }
    open(b);
    activate(b, a);
    settle();
    expect_equal();
    EXPECT_FALSE(a.logs("stopped")) << a.logged.back();
}

TEST_F(AccountTest, AFenceThatIsReadBeforeItsRecordEndsTheSource) {
    begin();
    a.mail_processes_live = false;
    a.change(inbox, "acknowledged");
    world.acknowledged.emplace_back(inbox, "acknowledged");
    a.mail_processes_live = true;
    world.fence(a.place(), 2);
    settle();
    a.pass(1s);
    EXPECT_FALSE(a.account->ship());
    EXPECT_EQ(a.change(inbox, "no"), Reason::not_source);
    propose(b, a);
    open(b);
    activate(b, a);
    expect_equal();
}

TEST_F(AccountTest, CrossesForthAndBackThroughTheSamePlace) {
    begin();
    for (int round = 0; round < 3; round++) {
        promote(b, a);
        ASSERT_EQ(b.change(inbox, "b " + std::to_string(round)), Reason::none);
        settle();
        flush_checked(a);
        promote(a, b);
        ASSERT_EQ(a.change(inbox, "a " + std::to_string(round)), Reason::none);
        settle();
        flush_checked(b);
        expect_equal();
        restart(round % 2 ? a : b);
        expect_equal();
    }
}

TEST_F(AccountTest, ADestinationRestartsAtEachStepOfAPromotion) {
    for (int dies = 0; dies < 5; dies++) {
        for (bool flushed : {false, true}) {
            SCOPED_TRACE("dies after step " + std::to_string(dies) + (flushed ? ", flushed" : ""));
            world = {};
            a.lose_memory(), b.lose_memory();
            a.memory = b.memory = a.disk = b.disk = {};
            begin();
            flush_checked(b);
            a.change(inbox, "just now");
            settle();
            auto die = [&](int step) {
                if (step != dies) return;
                if (flushed) flush_checked(b);
                b.lose_power();
                b.start();
                settle();
            };
            die(0);
            propose(b, a);
            settle();
            die(1);
            fence();
            settle();
            die(2);
            open(b);
            b.flush(); // the OPEN waits for it
            settle();
            die(3);
            activate(b, a);
            die(4);
            ASSERT_TRUE(b.account->ship());
            ASSERT_EQ(b.clear(inbox), Reason::none);
            ASSERT_EQ(b.change(inbox, "of b"), Reason::none);
            settle();
            expect_equal();
        }
    }
}

TEST_F(AccountTest, TheOldSourceRestartsAtEachStepOfAPromotion) {
    for (int dies = 0; dies < 5; dies++) {
        SCOPED_TRACE("dies after step " + std::to_string(dies));
        world = {};
        a.lose_memory(), b.lose_memory();
        a.memory = b.memory = a.disk = b.disk = {};
        begin();
        flush_checked(a);
        a.mail_processes_live = false;
        a.change(inbox, "acknowledged");
        world.acknowledged.emplace_back(inbox, "acknowledged");
        a.mail_processes_live = true;
        auto die = [&](int step) {
            if (step != dies) return;
            a.lose_power();
            a.start();
            settle();
        };
        die(0);
        propose(b, a);
        settle();
        die(1);
        fence();
        settle();
        die(2);
        open(b);
        settle();
        die(3);
        activate(b, a);
        die(4);
        EXPECT_EQ(a.role, Role::destination);
        ASSERT_EQ(b.change(inbox, "of b"), Reason::none);
        settle();
        expect_equal();
        flush_checked(a);
        restart(a);
        expect_equal();
    }
}

TEST_F(AccountTest, TwoFencesBeforeAnyOpen) {
    begin();
    flush_checked(a);
    b.workers_answer = false;
    a.change(inbox, "late at b");
    propose(b, a); // b gives up behind its fence
    fence();
    settle();
    b.workers_answer = true;
    settle();
    flush_checked(b);
    propose(a, b);
    fence();
    settle();
    flush_checked(a);
    flush_checked(b);
    restart(b);
    open(a);
    activate(a, b);
    ASSERT_EQ(a.change(inbox, "of a again"), Reason::none);
    settle();
    expect_equal();
    restart(a);
    restart(b);
    ASSERT_EQ(a.change(inbox, "and again"), Reason::none);
    settle();
    expect_equal();
}

// Whatever made it miss a fence: it may not take a later one for it and join the log behind what it lacks.
TEST_F(AccountTest, WhoMissedAFenceDoesNotPassOverTheEpochBehindIt) {
    begin();
    Number before = b.account->position();
    propose(a, a);
    world.open(a.place(), 2, {1, before.sequence + 1}); // b missed a change, too
    propose(b, a);
    fence();
    settle();
    EXPECT_TRUE(b.logs("the log has a gap")) << to_string(b.account->position());
    EXPECT_EQ(b.account->position(), before);
    EXPECT_EQ(b.state().phase, DestinationPhase::stopped);
}

// b has read its own OPEN but not applied everything when the next fence comes.
TEST_F(AccountTest, AFenceThatFindsASourceThatIsNotOpenYetLosesNothing) {
    begin();
    promote(b, a);
    ASSERT_EQ(b.change(inbox, "of b"), Reason::none);
    settle();
    propose(a, b);
    fence();
    open(a);
    a.workers_answer = false; // a's indexes lag behind from here on
    uint64_t epoch = world.record.epoch;
    decide(AccountState::active, "a", {"b"});
    settle();
    Entry foreign{a.place(), 0, account_key, {epoch, 1}, {}, {}};
    foreign.record.changes = {change_of(inbox, a.memory.boxes[inbox].mark.number, "a former life's")};
    world.append(a.place(), foreign);
    settle();
    flush_checked(a);
    propose(b, a);
    fence();
    settle();
    flush_checked(a);
    a.workers_answer = true;
    open(b);
    activate(b, a);
    ASSERT_EQ(b.change(inbox, "of b again"), Reason::none);
    settle();
    expect_equal();
    EXPECT_EQ(std::ranges::count(a.memory.boxes[inbox].content, "a former life's"), 1);
    flush_checked(a);
}

TEST_F(AccountTest, RemovedAndSetAgainTheDestinationTakesWhatItMissed) {
    begin();
    flush_checked(b);
    decide(AccountState::active, "a", {});
    settle();
    EXPECT_EQ(b.role, Role::removed);
    b.flush();
    EXPECT_FALSE(b.stored());
    ASSERT_EQ(a.change(inbox, "while b was away"), Reason::none);
    settle();
    world.record.places.push_back({1, a.place(), a.account->next_offset(), a.account->position().sequence});
    decide(AccountState::active, "a", {"b"});
    settle();
    EXPECT_EQ(b.role, Role::destination);
    EXPECT_NE(b.state().phase, DestinationPhase::complete);
    tell_wants(a, b);
    EXPECT_EQ(b.state().phase, DestinationPhase::complete) << b.state().reason;
    expect_equal();
}

TEST_F(AccountTest, RemovedWhollyAndSetAgain) {
    begin();
    decide(AccountState::removed, "a", {});
    settle();
    EXPECT_EQ(a.role, Role::none);
    EXPECT_EQ(b.role, Role::removed);
    EXPECT_EQ(a.change(inbox, "no"), Reason::not_source);
    a.flush(), b.flush();
    EXPECT_FALSE(a.stored());
    restart(a), restart(b);
    world.record.epoch++;
    world.record.places = {{world.record.epoch, a.place(), world.end(a.place()), 0}};
    decide(AccountState::active, "a", {"b"});
    settle();
    tell_wants(a, b);
    EXPECT_EQ(a.role, Role::source);
    EXPECT_EQ(b.state().phase, DestinationPhase::complete) << b.state().reason;
    ASSERT_EQ(a.clear(inbox), Reason::none);
    ASSERT_EQ(a.change(inbox, "in the new epoch"), Reason::none);
    settle();
    expect_equal();
}

TEST_F(AccountTest, AGapIsNamedOnceStopsTheDestinationAndASetAnewHealsIt) {
    begin();
    flush_checked(b);
    b.kill();
    size_t lost = world.logs[a.place()].size();
    ASSERT_EQ(a.change(inbox, "lost in the log"), Reason::none);
    ASSERT_EQ(a.change(other, "first"), Reason::behind) << "no mark: refused until its snapshot";
    for (int n = 0; n < 3; n++)
        ASSERT_EQ(a.change(inbox, "later " + std::to_string(n)), Reason::none);
    world.logs[a.place()][lost].number = {9, 9}; // nobody ever reads it again
    b.start();
    settle();
    EXPECT_EQ(b.state().phase, DestinationPhase::stopped);
    EXPECT_NE(b.state().reason.find("gap"), std::string::npos) << b.state().reason;
    EXPECT_EQ(std::ranges::count_if(b.logged, [](auto &line) { return line.find("gap") != line.npos; }), 2)
        << "the account's line and its destination's, not one for each record";
    flush_checked(b);
    restart(b);
    EXPECT_EQ(b.state().phase, DestinationPhase::stopped) << "it stays so";
    world.record.places.push_back({1, a.place(), a.account->next_offset(), a.account->position().sequence});
    decide(AccountState::active, "a", {"b"});
    settle();
    tell_wants(a, b);
    EXPECT_EQ(b.state().phase, DestinationPhase::complete) << b.state().reason;
    expect_equal();
}

TEST_F(AccountTest, WhatIsLostSaysSoAndBeginsAnewWithTheNextVersionAlsoAfterARestart) {
    begin();
    flush_checked(b);
    b.account->lost("for a test");
    EXPECT_EQ(b.account->phase(), DestinationPhase::lost);
    EXPECT_EQ(b.account->take_state(world.now + 10s, nullptr)->reason, "for a test");
    flush_checked(b);
    restart(b);
    EXPECT_EQ(b.account->phase(), DestinationPhase::lost);
    ASSERT_EQ(a.change(inbox, "meanwhile"), Reason::none);
    b.kill();
    decide(AccountState::active, "a", {"b"}); // and what b stored is of the version before
    b.start();
    settle();
    tell_wants(a, b);
    flush_checked(b);
    EXPECT_EQ(b.account->phase(), DestinationPhase::complete);
    expect_equal();
}

TEST_F(AccountTest, ADestinationThatDivergedIsHealedWhenItIsSetAnew) {
    begin();
    b.answers[inbox] = Verdict::failed;
    ASSERT_EQ(a.change(inbox, "cannot be taken"), Reason::none);
    settle();
    EXPECT_EQ(b.state().phase, DestinationPhase::stopped);
    b.answers.clear();
    world.record.places.push_back({1, a.place(), a.account->next_offset(), a.account->position().sequence});
    decide(AccountState::active, "a", {"b"});
    settle();
    tell_wants(a, b);
    EXPECT_EQ(b.state().phase, DestinationPhase::complete) << b.state().reason;
    expect_equal();
}

TEST_F(AccountTest, ADamagedLogStopsTheSourceForGood) {
    begin();
    flush_checked(a);
    a.kill();
    world.logs[a.place()].resize(2); // the broker lost its disk
    a.start();
    settle();
    EXPECT_TRUE(a.logs("damaged"));
    a.account->caught_up(world.now, a.place());
    settle();
    ASSERT_TRUE(a.account->ship());
    EXPECT_EQ(a.change(inbox, "no"), Reason::stopped);
    EXPECT_EQ(a.clear(inbox), Reason::stopped);
}

TEST_F(AccountTest, OneStoppedMailboxDoesNotKeepTheRoleFromTheOthers) {
    begin();
    Guid second = guid(2);
    ASSERT_EQ(a.change(list, encode(ListCreate{second, {"a"}, 1}), ChangeKind::list_create, second), Reason::none);
    flush_checked(a);
    a.mail_processes_live = false;
    a.change(inbox, "in doubt");
    a.mail_processes_live = true;
    a.kill();
    a.boot_id = "another boot"; // the control dir is not trusted before it says source again
    a.answers[inbox] = Verdict::diverged;
    a.start();
    settle();
    EXPECT_EQ(a.account->role(), Role::source);
    EXPECT_EQ(a.clear(inbox), Reason::stopped);
    EXPECT_EQ(a.clear(other), Reason::none);
    ASSERT_EQ(a.change(other, "goes on"), Reason::none);
    flush_checked(a);
}

TEST_F(AccountTest, WhoIsSetAsideReadsOnByItself) {
    begin();
    flush_checked(b);
    b.workers_answer = false;
    for (size_t n = 0; n < Follow::queue_max + 20; n++)
        ASSERT_EQ(a.change(inbox, "many " + std::to_string(n)), Reason::none);
    settle();
    ASSERT_TRUE(b.account->busy());
    b.account->set_aside();
    b.account->entry(world.now, world.logs[a.place()].back()); // the others' reader goes on
    auto held = b.account->storable();
    ASSERT_TRUE(held);
    EXPECT_GE(held->offset, 0) << "an offset of its own";
    int reads = b.reads();
    b.workers_answer = true;
    settle();
    EXPECT_GT(b.reads(), reads);
    expect_equal();
    flush_checked(b);
    EXPECT_EQ(b.stored()->offset, StoredAccount::of_place);
}

TEST_F(AccountTest, WhatWasAskedForAndNotReadYetIsNotPassedBy) {
    begin();
    flush_checked(a);
    a.mail_processes_live = false;
    a.change(inbox, "acknowledged, not committed");
    world.acknowledged.emplace_back(inbox, "acknowledged, not committed");
    a.mail_processes_live = true;
    int64_t needed = *a.account->ship()->oldest_unsettled_offset();
    world.fence(a.place(), 2);
    a.workers_answer = false;
    while (a.account->ship())
        ASSERT_TRUE(a.step()); // and the brokers go away before the reader went back
    EXPECT_EQ(a.account->storable()->offset, needed);
    flush_checked(a);
    a.workers_answer = true;
    a.lose_power();
    a.start();
    propose(b, a);
    open(b);
    activate(b, a);
    expect_equal();
}

TEST_F(AccountTest, AnOpenSnapshotHoldsOnlyThisAccountsOffset) {
    begin();
    flush_checked(b);
    world.record.places.push_back({1, a.place(), a.account->next_offset(), a.account->position().sequence});
    decide(AccountState::active, "a", {});
    settle();
    ASSERT_EQ(a.change(inbox, "meanwhile"), Reason::none);
    decide(AccountState::active, "a", {"b"});
    settle();
    a.account->destination_state(world.now, b.state());
    a.account->inspect([] {});
    while (!b.account->storable() || b.account->storable()->offset == StoredAccount::of_place)
        ASSERT_TRUE(a.step() || b.step());
    flush_checked(b);
    for (int n = 0; n < 40; n++) {
        a.step() || b.step();
        flush_checked(b);
        if (n % 10 == 9) restart(b);
    }
    tell_wants(a, b);
    EXPECT_EQ(b.state().phase, DestinationPhase::complete) << b.state().reason;
    expect_equal();
}

// Else a store that is promoted and killed before its first flush would begin its replica anew, with no source to take
// it from.
TEST_F(AccountTest, WhatCountsAsCompleteIsStillSoAfterARestart) {
    begin();
    EXPECT_EQ(b.account->phase(), DestinationPhase::initial);
    EXPECT_EQ(b.account->take_state(world.now, nullptr)->phase, DestinationPhase::initial);
    EXPECT_TRUE(b.account->wants_flush());
    flush_checked(b);
    EXPECT_FALSE(b.account->wants_flush());
    EXPECT_EQ(b.account->take_state(world.now, nullptr)->phase, DestinationPhase::complete);
    propose(b, a);
    b.lose_power();
    b.start();
    EXPECT_EQ(b.account->phase(), DestinationPhase::complete);
    fence();
    open(b);
    activate(b, a);
    expect_equal();
}

TEST_F(AccountTest, WhatIsNamedAnewIsNotCompleteByWhatWasStoredBefore) {
    begin();
    flush_checked(b);
    b.account->unreadable("for a test");
    flush_checked(b);
    decide(AccountState::active, "a", {"b"});
    settle();
    tell_wants(a, b);
    ASSERT_EQ(b.state().phase, DestinationPhase::complete);
    EXPECT_EQ(b.account->phase(), DestinationPhase::initial);
    flush_checked(b);
    EXPECT_EQ(b.account->phase(), DestinationPhase::complete);
}

TEST_F(AccountTest, ListsThatADestinationWantsWaitForTheInspection) {
    a.memory.boxes[list] = {};
    a.start();
    b.start();
    set_first();
    settle();
    int before = a.inspects;
    for (int i = 0; i < 3; i++)
        a.account->destination_state(world.now, b.state());
    settle();
    EXPECT_EQ(a.inspects, before + 1) << "asked for once, until it was done";
    EXPECT_TRUE(a.memory.boxes[list].mark.number.none());
    a.account->inspect([] {});
    settle();
    EXPECT_FALSE(a.memory.boxes[list].mark.number.none());
}

TEST_F(AccountTest, WhatWasFlushedIsSaidAndNotWhatAKillTakesBack) {
    begin();
    flush_checked(b);
    (void)b.account->take_state(world.now, nullptr);
    Number flushed = b.account->position();
    ASSERT_EQ(a.change(inbox, "two"), Reason::none);
    settle();
    auto state = b.account->take_state(world.now += 10s, nullptr);
    ASSERT_TRUE(state);
    EXPECT_EQ(state->position, b.account->position());
    EXPECT_EQ(state->flushed, flushed);
    flush_checked(b);
    state = b.account->take_state(world.now += 10s, nullptr);
    ASSERT_TRUE(state) << "the flush alone is worth a word";
    EXPECT_EQ(state->flushed, b.account->position());
}

TEST_F(AccountTest, ASourceSaysWhatItHasPastTheLogUntilItsSnapshotCounts) {
    begin();
    auto said = [&](const DestinationState *published) {
        world.now += 2s;
        return a.account->take_state(world.now, published);
    };
    a.account->inspect([] {});
    settle();
    EXPECT_FALSE(said(nullptr)) << "nothing to say";
    a.memory.boxes[inbox].content.push_back("past the log");
    a.memory.boxes[inbox].mark.unlogged = true;
    restart(a);
    DestinationState before;
    before.phase = DestinationPhase::source;
    before.wanted = {inbox};
    EXPECT_FALSE(said(&before)) << "what a former life said holds until somebody looked";
    a.workers_answer = false;
    a.account->inspect([] {});
    a.workers_answer = true;
    a.step(); // the inspection
    auto state = said(nullptr);
    ASSERT_TRUE(state);
    EXPECT_EQ(state->phase, DestinationPhase::source);
    EXPECT_EQ(state->wanted, std::vector<Object>{inbox});
    settle();
    state = said(&before);
    ASSERT_TRUE(state);
    EXPECT_TRUE(state->wanted.empty());
    EXPECT_EQ(state->position, a.account->position()) << "the snapshot's number";
    EXPECT_FALSE(said(&*state)) << "once is enough";
    EXPECT_EQ(a.clear(inbox), Reason::none);
    expect_equal();
}

TEST_F(AccountTest, ASourceSaysWhichMailboxStandsStill) {
    begin();
    a.mail_processes_live = false;
    a.change(inbox, "in doubt");
    a.mail_processes_live = true;
    a.answers[inbox] = Verdict::diverged;
    restart(a);
    a.account->inspect([] {});
    settle();
    world.now += 2s;
    auto state = a.account->take_state(world.now, nullptr);
    ASSERT_TRUE(state);
    EXPECT_NE(state->reason.find("cannot be rolled forward"), std::string::npos) << state->reason;
}

TEST(StoredAccount, ComesBackWhole) {
    StoredAccount stored;
    stored.position = {3, 7};
    stored.opened = true;
    stored.place = {"log", 4};
    stored.offset = 99;
    stored.wants_everything = true;
    stored.wanted = {inbox, list};
    stored.stopped = "why";
    stored.control_dir = {Role::source, 3, "boot", "/mail", 5, "1000"};
    auto bytes = encode(stored);
    auto back = decode<StoredAccount>(bytes);
    ASSERT_TRUE(back);
    EXPECT_EQ(encode(*back), bytes);
    EXPECT_EQ(back->offset, 99);
    EXPECT_EQ(back->control_dir, stored.control_dir);
    for (size_t n = 0; n < bytes.size(); n++)
        EXPECT_FALSE(decode<StoredAccount>(std::string_view(bytes).substr(0, n))) << n;
}

} // namespace
} // namespace replica::test
