#include "agentd/core/operation_context.hpp"
#include "agentd/core/status.hpp"
#include "tests/unit/operations_site.hpp"
#include <algorithm>

namespace replica::test {
namespace {

// --- names and lists

TEST(AccountName, ProblemsAreNamed) {
    EXPECT_EQ(account_name_problem("john@example.com"), "");
    EXPECT_EQ(account_name_problem("j\xc3\xb6hn+x_y-z='@example.com"), "");
    EXPECT_EQ(account_name_problem(""), "an account's name is empty");
    for (std::string name : {"john*", "jo?n", "[jj]ohn", "j(o)", "a{2}", "a|b", "^john", "john$", "jo\\hn", "%u"})
        EXPECT_EQ(account_name_problem(name),
                  name + ": wildcards and regular expressions are not taken, name each account");
    EXPECT_EQ(account_name_problem("jo hn"), "jo hn: an account's name has no blanks");
    EXPECT_EQ(account_name_problem("jo\thn"), "jo?hn: an account's name has no control characters");
    EXPECT_EQ(account_name_problem(std::string("jo\0hn", 5)), "jo?hn: an account's name has no control characters");
    EXPECT_EQ(account_name_problem(std::string(256, 'a')),
              std::string(255, 'a') + ": an account's name has at most 255 bytes");
}

// A destination that is killed goes on where it was flushed, not where it had applied to.
TEST(PrunePlaces, KeepsWhatARestartNeeds) {
    KeyRing ring = *KeyRing::parse(KeyRing::generate());
    Control control(ring);
    auto key = ring.account_key("a@x");
    auto kafka_key = destination_key(key, store_hash(ring, "s2"));
    DestinationState state;
    state.account = "a@x";
    state.store = "s2";
    state.position = {2, 5};
    auto places_left = [&](Number flushed) {
        state.flushed = flushed;
        control.apply(Time{}, kafka_key, seal_control(ring, Session{}, kafka_key, state));
        AccountRecord record;
        record.places = {{1, {"t", 0}, 0, 0}, {2, {"u", 0}, 0, 0}};
        record.destinations = {{"s2", 1}};
        prune_places(record, control, key);
        return record.places.size();
    };
    EXPECT_EQ(places_left({1, 7}), 2u);
    EXPECT_EQ(places_left({2, 0}), 1u);
}

TEST_F(OperationsTest, AListIsRefusedWithAllThatIsWrongInIt) {
    EXPECT_EQ(set(s1, "s2", 1, {}), "refused: no account is named");
    EXPECT_EQ(set(s1, "s2", 1, {"a@x", "john*", "", "b@x", "a@x", "a@x"}),
              "refused: john*: wildcards and regular expressions are not taken, name each account; an account's name "
              "is empty; a@x is named twice");
    EXPECT_EQ(remove(s1, "s2", {"a b"}), "refused: a b: an account's name has no blanks");
    EXPECT_EQ(promote(s1, "s2", {"?"}),
              "refused: ?: wildcards and regular expressions are not taken, name each account");
    EXPECT_EQ(set(s1, "s2", 1, Names(10001, "a@x")),
              "refused: 10001 accounts are named; one command takes at most 10000");
    EXPECT_TRUE(s1.control().operations().empty());
}

// --- set

TEST_F(OperationsTest, SetMakesARecordAndEndsWhenTheDestinationHasEverything) {
    s1.admin = "admin@x";
    s1.kill();
    s1.start();
    cluster.pass(2s);
    s2.initialises = false;
    auto id = *s1.operations().set(world.now, "s2", 10, {"a@x", "b@x"});
    cluster.pass(2s);
    ASSERT_TRUE(s1.operation(id));
    EXPECT_EQ(s1.operation(id)->phase, OperationPhase::running);
    EXPECT_EQ(s1.operation(id)->result, "the checks are good, initialisation is under way: 2 accounts on s2");
    auto *record = s3.control().account("a@x");
    ASSERT_TRUE(record);
    EXPECT_EQ(record->version, 1u);
    EXPECT_EQ(record->epoch, 1u);
    EXPECT_EQ(record->source, "s1");
    EXPECT_EQ(record->state, AccountState::active);
    EXPECT_EQ(record->destinations, (std::vector<DestinationEntry>{{"s2", 10}}));
    EXPECT_EQ(record->places, (std::vector<EpochPlace>{{1, {"replica.changes.s1", 0}, 0, 0}}));
    s2.initialises = true;
    change(s1, "a@x");
    change(s1, "b@x");
    EXPECT_EQ(outcome(s1, id), "initialisation is complete: 2 accounts on s2");
    ASSERT_EQ(s1.mails.size(), 1u);
    EXPECT_EQ(s1.mails[0].to, "admin@x");
    EXPECT_EQ(s1.mails[0].subject, "Replica: initialisation on s2");
    EXPECT_EQ(s1.mails[0].text, "initialisation is complete: 2 accounts on s2 (operation " + to_hex(id) + ")");
    EXPECT_EQ(s1.log_lines.back(), s1.mails[0].text);
    EXPECT_TRUE(s1.operations().idle());
    EXPECT_TRUE(s2.operations().idle());
}

TEST_F(OperationsTest, SetKnowsItsStores) {
    EXPECT_EQ(set(s1, "s9", 1, {"a@x"}), "refused: store s9 is unknown: no heartbeat of it was ever seen");
    EXPECT_EQ(set(s1, "s1", 1, {"a@x"}), "refused: a@x: s1 is its source, it cannot be its destination too");
    s2.kill();
    cluster.pass(12s);
    EXPECT_EQ(set(s1, "s2", 1, {"a@x"}), "refused: store s2 is silent: its last heartbeat came 12 s ago");
    s1.kill();
    s1.start();
    EXPECT_EQ(set(s1, "s2", 1, {"a@x"}), "refused: store s2 is silent: no heartbeat came since this agent started");
    s3.version = "0.2.0";
    s2.start();
    s2.key_check = "other";
    cluster.pass(1s);
    EXPECT_EQ(set(s1, "s2", 1, {"a@x"}), "refused: store s2 has other keys than s1: copy replica_key_file to it");
    EXPECT_EQ(set(s1, "s3", 1, {"a@x"}), "refused: store s3 runs version 0.2.0, s1 runs 0.1.0");
    s3.version = "0.1.7";
    cluster.pass(1s);
    EXPECT_EQ(set(s1, "s3", 1, {"a@x"}), "initialisation is complete: 1 account on s3");
}

TEST_F(OperationsTest, ASilentSourceIsToBePromotedFirst) {
    ASSERT_EQ(set(s1, "s2", 1, {"a@x"}), "initialisation is complete: 1 account on s2");
    s1.kill();
    cluster.pass(12s);
    EXPECT_EQ(
        set(s2, "s3", 2, {"a@x"}),
        "refused: store s1 is silent: its last heartbeat came 12 s ago; it is a source: promote its accounts first");
}

TEST_F(OperationsTest, PrioritiesAreUniqueForAnAccount) {
    ASSERT_EQ(set(s1, "s2", 1, {"a@x"}), "initialisation is complete: 1 account on s2");
    EXPECT_EQ(set(s1, "s3", 1, {"a@x", "b@x"}), "refused: a@x: priority 1 is taken by s2");
    EXPECT_FALSE(s1.control().account("b@x"));
    EXPECT_EQ(set(s3, "s3", 2, {"a@x"}), "initialisation is complete: 1 account on s3"); // on any store
    EXPECT_EQ(set(s1, "s2", 2, {"a@x"}), "refused: a@x: priority 2 is taken by s3");
    EXPECT_EQ(set(s1, "s2", 3, {"a@x"}), "initialisation is complete: 1 account on s2"); // another priority
    EXPECT_EQ(s1.control().account("a@x")->destinations, (std::vector<DestinationEntry>{{"s3", 2}, {"s2", 3}}));
    EXPECT_EQ(s1.control().account("a@x")->version, 3u);
}

TEST_F(OperationsTest, BadAccountsAreAllNamedAndNothingIsDone) {
    AccountFacts unknown, alias, unfit, other, filled;
    alias.exists = true;
    alias.user = "team@x";
    unfit.exists = true;
    unfit.user = "unfit@x";
    unfit.unfit = "its INBOX is in a maildir namespace";
    filled = other = unfit;
    other.unfit = filled.unfit = "";
    other.user = "other@x";
    other.uid = "5001";
    other.gid = "5000";
    other.settings = "driver=cbox\nlayout=index\ncrypt=yes\n";
    filled.user = "filled@x";
    filled.objects = {{{"", Guid::from("0123456789abcdef")}, {"INBOX"}, {}, 7, 1},
                      {{"", {}}, {}, {{1, 1}, false}, 5, 0}};
    s1.facts["unknown@x"] = unknown;
    s2.facts["alias@x"] = alias;
    s1.facts["unfit@x"] = unfit;
    s2.facts["filled@x"] = filled;
    EXPECT_EQ(set(s1, "s2", 1, {"good@x", "unknown@x", "alias@x", "unfit@x", "filled@x"}),
              "failed: nothing was done: unknown@x: the userdb of s1 does not know it; "
              "unfit@x: on s1 it cannot have a replica: its INBOX is in a maildir namespace; "
              "alias@x is an alias or a list: the userdb of s2 returned team@x; "
              "filled@x: s2 holds 7 mails of it already that no log knows");
    EXPECT_TRUE(s1.control().accounts().empty());
    s2.facts["other@x"] = other;
    EXPECT_EQ(set(s1, "s2", 1, {"good@x", "other@x"}), "failed: nothing was done: other@x: crypt differs: none on s1, "
                                                       "yes on s2; other@x: uid differs: 5000 on s1, 5001 on s2");
    EXPECT_TRUE(s1.control().accounts().empty());
}

TEST_F(OperationsTest, AnUnloggedMailboxAtTheDestinationIsUnknownMailToo) {
    AccountFacts facts;
    facts.exists = true;
    facts.user = "a@x";
    facts.uid = facts.gid = "5000";
    facts.settings = "driver=cbox\nlayout=index\n";
    facts.objects = {{{"", Guid::from("0123456789abcdef")}, {"INBOX"}, {{1, 5}, true}, 1, 1}};
    s2.facts["a@x"] = facts;
    EXPECT_EQ(set(s1, "s2", 1, {"a@x"}),
              "failed: nothing was done: a@x: s2 holds 1 mail of it already that no log knows");
    s2.facts["a@x"].objects[0].mark.unlogged = false;
    EXPECT_EQ(set(s1, "s2", 1, {"a@x"}), "initialisation is complete: 1 account on s2");
}

TEST_F(OperationsTest, TheBlobStoreMustBeTheSame) {
    s2.own_blobs = true;
    EXPECT_EQ(set(s1, "s2", 1, {"a@x"}),
              "failed: nothing was done: a@x: s2 cannot read a blob that s1 wrote: both must use the same blob store");
    s1.probe_write_error = "Permission denied";
    EXPECT_EQ(set(s1, "s2", 1, {"a@x"}),
              "failed: nothing was done: a@x: s1 cannot write to its blob store: Permission denied");
    s1.probe_write_error.reset();
    s1.start_error = "the brokers are away";
    EXPECT_EQ(set(s1, "s2", 1, {"a@x"}), "failed: nothing was done: a@x: s1 cannot name a start: the brokers are away");
}

TEST_F(OperationsTest, AccountsOfTheSameUserAndBlobStoreShareAProbe) {
    AccountFacts other;
    other.exists = true;
    other.user = "c@x";
    other.uid = other.gid = "5001";
    s1.facts["c@x"] = s2.facts["c@x"] = other;
    EXPECT_EQ(set(s1, "s2", 1, {"a@x", "b@x", "c@x"}), "initialisation is complete: 3 accounts on s2");
    EXPECT_EQ(world.blobs.size(), 2u);
}

TEST_F(OperationsTest, AStoreThatDoesNotAnswerIsNamed) {
    s2.mute_worker = true;
    EXPECT_EQ(set(s1, "s2", 1, {"a@x"}), "failed: nothing was done: store s2 did not answer the checks in time");
    EXPECT_FALSE(s1.control().account("a@x"));
    EXPECT_TRUE(s2.operations().idle()); // it gave up with the operation
}

TEST_F(OperationsTest, ABusyWorkerIsAskedAgain) {
    s1.retries = s2.retries = 3;
    EXPECT_EQ(set(s1, "s2", 1, {"a@x", "b@x"}), "initialisation is complete: 2 accounts on s2");
}

TEST_F(OperationsTest, AccountsOfSeveralSourcesAreCheckedByEach) {
    ASSERT_EQ(set(s1, "s3", 1, {"a@x"}), "initialisation is complete: 1 account on s3");
    ASSERT_EQ(set(s2, "s3", 1, {"b@x"}), "initialisation is complete: 1 account on s3");
    s2.facts["b@x"] = AccountFacts{};
    EXPECT_EQ(set(s1, "s3", 2, {"a@x", "b@x", "c@x"}),
              "failed: nothing was done: b@x: the userdb of s2 does not know it");
    s2.facts.clear();
    EXPECT_EQ(set(s1, "s3", 2, {"a@x", "b@x", "c@x"}), "initialisation is complete: 3 accounts on s3");
    EXPECT_EQ(s1.control().account("b@x")->source, "s2");
    EXPECT_EQ(s1.control().account("c@x")->source, "s1");
}

TEST_F(OperationsTest, ALateDestinationStartsWhereTheSourceIsNow) {
    ASSERT_EQ(set(s1, "s2", 1, {"a@x"}), "initialisation is complete: 1 account on s2");
    change(s1, "a@x", 3);
    ASSERT_EQ(set(s1, "s3", 2, {"a@x"}), "initialisation is complete: 1 account on s3");
    auto &places = s1.control().account("a@x")->places;
    EXPECT_EQ(places.back(), (EpochPlace{1, {"replica.changes.s1", 0}, 4, 3})); // behind OPEN and three changes
    change(s1, "a@x", 2);
    EXPECT_EQ(s3.position("a@x"), (Number{1, 5}));
}

TEST_F(OperationsTest, TwoDestinationsAtTheSameMomentAreBothSet) {
    auto first = *s1.operations().set(world.now, "s2", 1, {"a@x"});
    auto second = *s1.operations().set(world.now, "s3", 2, {"a@x"});
    EXPECT_EQ(outcome(s1, first), "initialisation is complete: 1 account on s2");
    EXPECT_EQ(outcome(s1, second), "initialisation is complete: 1 account on s3");
    EXPECT_EQ(s2.control().account("a@x")->destinations.size(), 2u);
}

TEST_F(OperationsTest, TwoStoresThatTakeTheSameNewAccountAreNotBothItsSource) {
    auto first = *s1.operations().set(world.now, "s3", 1, {"a@x"});
    auto second = *s2.operations().set(world.now, "s3", 2, {"a@x"});
    EXPECT_EQ(outcome(s1, first), "initialisation is complete: 1 account on s3");
    EXPECT_EQ(outcome(s1, second), "failed: initialisation is complete: 0 accounts on s3, not complete: "
                                   "a@x: its source changed while it was checked, from s2 to s1");
}

TEST_F(OperationsTest, AStoppedInitialisationFailsAndIsSetAnew) {
    s2.stopped = {"a@x"};
    EXPECT_EQ(set(s1, "s2", 1, {"a@x", "b@x"}), "failed: initialisation is complete: 1 account on s2, not complete: "
                                                "a@x: initialisation on s2 stopped: a gap");
    s2.stopped.clear();
    EXPECT_EQ(set(s1, "s2", 1, {"a@x"}), "initialisation is complete: 1 account on s2");
    EXPECT_EQ(s1.control().account("a@x")->version, 2u);
}

TEST_F(OperationsTest, ADestinationBeyondRetentionSetsItselfAnew) {
    ASSERT_EQ(set(s1, "s2", 7, {"a@x", "b@x"}), "initialisation is complete: 2 accounts on s2");
    DestinationState lost = *s1.control().destination("a@x", "s2");
    lost.phase = DestinationPhase::lost;
    lost.reason = "Kafka keeps less";
    world.write(destination_key(world.key("a@x"), store_hash(world.ring, "s2")), lost);
    cluster.pass(15s);
    EXPECT_EQ(s1.control().account("a@x")->version, 2u);
    EXPECT_EQ(s1.control().account("a@x")->destinations, (std::vector<DestinationEntry>{{"s2", 7}}));
    EXPECT_EQ(s1.control().account("b@x")->version, 1u);
    auto operations = s1.control().operations();
    ASSERT_EQ(operations.size(), 2u);
    EXPECT_TRUE(std::ranges::all_of(operations, [](auto *each) { return each->phase == OperationPhase::done; }));
}

TEST_F(OperationsTest, ABeginningAnewWaitsForItsSource) {
    ASSERT_EQ(set(s1, "s2", 7, {"a@x"}), "initialisation is complete: 1 account on s2");
    s1.kill();
    cluster.pass(20s);
    DestinationState lost = *s2.control().destination("a@x", "s2");
    lost.phase = DestinationPhase::lost;
    world.write(destination_key(world.key("a@x"), store_hash(world.ring, "s2")), lost);
    cluster.pass(30s);
    EXPECT_EQ(std::ranges::count_if(s2.log_lines, [](auto &line) { return line.find("begin anew") != line.npos; }), 1)
        << "said once, and not at each look";
    s1.start();
    cluster.pass(6min);
    EXPECT_EQ(s2.control().account("a@x")->version, 2u);
}

TEST_F(OperationsTest, AnUnreadableRecordStopsEveryCommandForItsAccount) {
    ASSERT_EQ(set(s1, "s2", 1, {"a@x"}), "initialisation is complete: 1 account on s2");
    auto key = account_record_key(world.key("a@x"), 2, store_hash(world.ring, "s1"), Session{}, 9);
    world.control_log.emplace_back(key, "nonsense");
    cluster.settle();
    auto why = "a@x: version 2 of account " + to_hex(world.key("a@x")) + " cannot be read: ";
    EXPECT_EQ(set(s1, "s3", 2, {"a@x"}).substr(9, why.size()), why);
    EXPECT_EQ(remove(s1, "s2", {"a@x"}).substr(9, why.size()), why);
    EXPECT_EQ(promote(s1, "s2", {"a@x"}).substr(9, why.size()), why);
}

// --- remove

TEST_F(OperationsTest, RemoveWorksWithASilentDestinationAndTheLastOneEndsReplication) {
    ASSERT_EQ(set(s1, "s2", 1, {"a@x"}), "initialisation is complete: 1 account on s2");
    ASSERT_EQ(set(s1, "s3", 2, {"a@x"}), "initialisation is complete: 1 account on s3");
    s2.kill();
    cluster.pass(10s);
    EXPECT_EQ(remove(s3, "s2", {"a@x"}), "s2 is no destination of 1 account any more");
    EXPECT_EQ(s1.control().account("a@x")->destinations, (std::vector<DestinationEntry>{{"s3", 2}}));
    EXPECT_EQ(s1.control().account("a@x")->state, AccountState::active);
    EXPECT_EQ(remove(s1, "s3", {"a@x"}), "s3 is no destination of 1 account any more");
    EXPECT_EQ(s1.control().account("a@x")->state, AccountState::removed);
    EXPECT_EQ(s1.control().account("a@x")->version, 4u);
    EXPECT_TRUE(s1.control().accounts().empty());
    EXPECT_FALSE(s1.control().destination("a@x", "s3")); // s3 took its own state back
    // Set again: no version and no epoch a second time.
    EXPECT_EQ(set(s2.alive ? s2 : s3, "s1", 1, {"a@x"}), "initialisation is complete: 1 account on s1");
    EXPECT_EQ(s1.control().account("a@x")->version, 5u);
    EXPECT_EQ(s1.control().account("a@x")->epoch, 2u);
    EXPECT_EQ(s1.control().account("a@x")->source, "s3");
}

TEST_F(OperationsTest, RemoveNamesWhatItDoesNotKnow) {
    ASSERT_EQ(set(s1, "s2", 1, {"a@x"}), "initialisation is complete: 1 account on s2");
    EXPECT_EQ(remove(s1, "s3", {"a@x", "b@x"}), "refused: a@x: s3 is not a destination of it; b@x: it has no replica");
    ASSERT_EQ(remove(s1, "s2", {"a@x"}), "s2 is no destination of 1 account any more");
    EXPECT_EQ(remove(s1, "s2", {"a@x"}), "refused: a@x: it has no replica");
}

TEST_F(OperationsTest, ADestinationThatIsRemovedWhileItIsSetIsSaidSo) {
    s2.initialises = false;
    auto id = *s1.operations().set(world.now, "s2", 1, {"a@x"});
    cluster.pass(2s);
    EXPECT_EQ(remove(s3, "s2", {"a@x"}), "s2 is no destination of 1 account any more");
    EXPECT_EQ(outcome(s1, id), "failed: initialisation is complete: 0 accounts on s2, not complete: "
                               "a@x: s2 was removed again before it had everything");
}

// --- tidying up

TEST_F(OperationsTest, FinishedOperationsAndOldVersionsLeaveTheLog) {
    auto id = *s1.operations().set(world.now, "s2", 1, {"a@x"});
    ASSERT_EQ(outcome(s1, id), "initialisation is complete: 1 account on s2");
    ASSERT_EQ(set(s1, "s3", 2, {"a@x"}), "initialisation is complete: 1 account on s3");
    cluster.pass(30s);
    EXPECT_EQ(s1.erased.size(), 1u); // version 1
    EXPECT_TRUE(s2.erased.empty());
    EXPECT_TRUE(s3.operation(id));
    world.wall_ms += 24ull * 3600 * 1000;
    cluster.pass(30s);
    EXPECT_FALSE(s3.operation(id));
    EXPECT_FALSE(s3.control().check_answer(id, "s1"));
    EXPECT_FALSE(s3.control().check_answer(id, "s2"));
    EXPECT_EQ(s1.erased.size(), 1u + 2 * 3); // of each operation its record and two answers
    s1.kill();
    s1.start(); // tombstones are not written twice
    cluster.pass(30s);
    EXPECT_EQ(s1.erased.size(), 7u);
    EXPECT_EQ(s1.control().account("a@x")->version, 2u);
}

// --- status

TEST_F(OperationsTest, StatusShowsEachAccountAndDestination) {
    ASSERT_EQ(set(s1, "s3", 2, {"a@x"}), "initialisation is complete: 1 account on s3");
    ASSERT_EQ(set(s1, "s2", 1, {"b@x", "a@x"}), "initialisation is complete: 2 accounts on s2");
    change(s1, "a@x", 3);
    s3.stopped = {"a@x"};
    change(s1, "a@x");
    StatusSettings settings;
    settings.self = "s1";
    settings.last_number = [&](const AccountKey &) { return Number{1, 6}; };
    settings.first_after = [&](const AccountKey &, const Number &number) {
        return number == Number{1, 4} ? std::optional(world.now - 2500ms) : std::nullopt;
    };
    auto rows = account_status(s1.control(), world.ring, world.now, settings, {});
    ASSERT_EQ(rows.size(), 3u);
    EXPECT_EQ(rows[0].account + rows[0].destination, "a@xs2");
    EXPECT_EQ(rows[1].account + rows[1].destination, "a@xs3");
    EXPECT_EQ(rows[2].account + rows[2].destination, "b@xs2");
    EXPECT_TRUE(rows[0].available);
    EXPECT_EQ(rows[0].phase, "complete");
    EXPECT_EQ(rows[0].position, (Number{1, 4}));
    EXPECT_EQ(rows[0].lag_changes, 2u);
    EXPECT_EQ(rows[0].lag_seconds, 3u);
    EXPECT_FALSE(rows[1].available);
    EXPECT_EQ(rows[1].reason, "stopped: a gap");
    s2.kill();
    cluster.pass(20s);
    rows = account_status(s1.control(), world.ring, world.now, settings, {"s1", "s2", false});
    ASSERT_EQ(rows.size(), 2u);
    EXPECT_EQ(rows[0].reason, "the store is silent for 20 s");
    EXPECT_TRUE(account_status(s1.control(), world.ring, world.now, settings, {"s2", "", {}}).empty());
    EXPECT_TRUE(account_status(s1.control(), world.ring, world.now, settings, {"", "", true}).empty());

    auto stores = store_status(s1.control(), world.ring, world.now, settings);
    ASSERT_EQ(stores.size(), 3u);
    EXPECT_TRUE(stores[0].alive);
    EXPECT_FALSE(stores[1].alive);
    EXPECT_EQ(stores[1].silent_seconds, 20u);
    EXPECT_TRUE(stores[2].same_keys);
    auto operations = operation_status(s1.control(), world.ring);
    ASSERT_EQ(operations.size(), 2u);
    EXPECT_EQ(operations[0].kind, "setAccountDestination");
    EXPECT_EQ(operations[0].phase, "done");
    EXPECT_EQ(operations[1].accounts_done, 2u);
    EXPECT_EQ(operations[1].result, "initialisation is complete: 2 accounts on s2");
}

} // namespace
} // namespace replica::test
