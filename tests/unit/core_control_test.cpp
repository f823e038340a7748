#include "agentd/core/control.hpp"
#include <algorithm>
#include <gtest/gtest.h>
#include <random>

namespace replica {
namespace {

constexpr Time now = Time{} + std::chrono::seconds(1000);

struct ControlTest : testing::Test {
    KeyRing ring = *KeyRing::parse(KeyRing::generate());
    Control control{ring};
    Session session = Session::from("sessionA");
    uint64_t counter = 0;

    std::string key_of(const AccountRecord &record, const std::string &store) {
        return account_record_key(ring.account_key(record.account), record.version, store_hash(ring, store), session,
                                  ++counter);
    }
    AccountRecord record(uint64_t version, const std::string &source) {
        AccountRecord r;
        r.account = "a@x";
        r.version = version;
        r.epoch = version;
        r.source = source;
        r.places = {{version, {"replica.changes." + source, 0}, 0, 0}};
        r.destinations = {{"s9", 1}};
        return r;
    }
    Control::Changed apply(const std::string &key, const ControlValue &value) {
        return control.apply(now, key, seal_control(ring, session, key, value));
    }
    Control::Changed propose(uint64_t version, const std::string &source) {
        auto proposal = record(version, source);
        return apply(key_of(proposal, source), proposal);
    }
    AccountKey account = ring.account_key("a@x");
};

TEST_F(ControlTest, TheFirstRecordOfTheHighestVersionCounts) {
    EXPECT_EQ(propose(1, "s1").account, account);
    EXPECT_FALSE(propose(1, "s2").account); // lost
    EXPECT_EQ(control.account("a@x")->source, "s1");
    EXPECT_EQ(propose(2, "s2").account, account);
    EXPECT_FALSE(propose(2, "s3").account);
    EXPECT_FALSE(propose(1, "s3").account); // much too late
    EXPECT_EQ(control.account(account)->source, "s2");
    EXPECT_TRUE(control.decided(account, 1));
    EXPECT_TRUE(control.decided(account, 2));
    EXPECT_FALSE(control.decided(account, 3));
}

TEST_F(ControlTest, AFreshReaderThatMissedVersionsAgrees) {
    propose(7, "s3");
    EXPECT_EQ(control.account(account)->version, 7u);
    EXPECT_FALSE(propose(6, "s1").account);
    EXPECT_EQ(control.account(account)->source, "s3");
}

TEST_F(ControlTest, ARemovedAccountIsKeptButNotListed) {
    propose(1, "s1");
    ASSERT_EQ(control.accounts().size(), 1u);
    auto removed = record(2, "s1");
    removed.state = AccountState::removed;
    apply(key_of(removed, "s1"), removed);
    EXPECT_TRUE(control.accounts().empty());
    ASSERT_TRUE(control.account(account));
    EXPECT_EQ(control.account(account)->state, AccountState::removed);
}

TEST_F(ControlTest, ATombstoneOfTheWinnerIsNamedAndChangesNothing) {
    auto proposal = record(1, "s1");
    auto key = key_of(proposal, "s1");
    apply(key, proposal);
    auto changed = control.apply(now, key, {});
    EXPECT_EQ(changed.problem, "version 1 of account " + to_hex(account) +
                                   " was removed from the log, though it counts: it is kept here");
    EXPECT_EQ(control.account(account)->source, "s1");
}

TEST_F(ControlTest, OutdatedKeysAreAllButTheWinnersAndThoseWithATombstone) {
    auto first = record(1, "s1"), loser = record(2, "s2"), second = record(2, "s1");
    auto first_key = key_of(first, "s1"), second_key = key_of(second, "s1"), loser_key = key_of(loser, "s2");
    apply(first_key, first);
    EXPECT_TRUE(control.take_outdated_keys(account).empty());
    apply(second_key, second);
    apply(loser_key, loser);
    apply(second_key, second); // the winner once more
    auto late = record(1, "s3");
    auto late_key = key_of(late, "s3");
    apply(late_key, late);
    control.apply(now, first_key, {});
    EXPECT_EQ(control.take_outdated_keys(account), (std::vector{loser_key, late_key}));
    EXPECT_TRUE(control.take_outdated_keys(account).empty());
}

TEST_F(ControlTest, AValueSealedForAnotherKeyStopsTheAccount) {
    propose(1, "s1");
    auto proposal = record(2, "s2");
    auto key = key_of(proposal, "s2"), other = key_of(proposal, "s3");
    auto changed = control.apply(now, key, seal_control(ring, session, other, proposal));
    EXPECT_EQ(changed.account, account);
    EXPECT_EQ(changed.problem, "version 2 of account " + to_hex(account) +
                                   " cannot be read: it was sealed for another key; it stops a@x");
    EXPECT_EQ(control.account_problem(account), changed.problem);
    EXPECT_EQ(control.account(account)->source, "s1"); // the last that could be read
    EXPECT_TRUE(control.decided(account, 2));
    // A readable one of the same version is a late loser. A higher one goes on.
    EXPECT_FALSE(propose(2, "s2").account);
    EXPECT_FALSE(control.account_problem(account).empty());
    propose(3, "s2");
    EXPECT_TRUE(control.account_problem(account).empty());
    EXPECT_EQ(control.account(account)->source, "s2");
}

TEST_F(ControlTest, AnUnreadableLateLoserStopsNobody) {
    propose(2, "s1");
    for (uint64_t version : {1, 2}) {
        auto changed = control.apply(now, key_of(record(version, "s2"), "s2"), "nonsense");
        EXPECT_FALSE(changed.account);
        EXPECT_TRUE(changed.problem.empty());
    }
    EXPECT_TRUE(control.account_problem(account).empty());
}

TEST_F(ControlTest, ARecordOfAnAccountsLogIsNoControlValue) {
    auto proposal = record(1, "s1");
    auto key = key_of(proposal, "s1");
    EnvelopeHeader header{ring.active(), AccountKey::from(sha256(key).data()), {1, 1}, session};
    auto changed = control.apply(now, key, *seal(ring, header, encode(ControlValue(proposal))));
    EXPECT_EQ(changed.problem,
              "version 1 of account " + to_hex(account) + " cannot be read: it is a record of an account's log");
    EXPECT_FALSE(control.account(account));
}

TEST_F(ControlTest, AValueThatIsNotWhatItsKeySaysIsRefused) {
    auto proposal = record(1, "s1");
    auto wrong_version = account_record_key(account, 2, store_hash(ring, "s1"), session, 1);
    EXPECT_EQ(apply(wrong_version, proposal).problem,
              "version 2 of account " + to_hex(account) + " cannot be read: it is not what its key says");
    Heartbeat beat;
    beat.store = "s1";
    auto of_s2 = heartbeat_key(store_hash(ring, "s2"));
    EXPECT_EQ(apply(of_s2, beat).problem, "a heartbeat of store " + to_hex(store_hash(ring, "s2")) +
                                              " cannot be read: it is not what its key says; it is left out, the last "
                                              "one that was read goes on to count");
    EXPECT_EQ(apply(wrong_version, beat).account, std::nullopt); // an equal version: a late loser
    EXPECT_EQ(control.apply(now, "zzz", "x").problem,
              "a message of the control log has a key of no known form: it stops nobody");
    EXPECT_TRUE(control.stores().empty());
}

TEST_F(ControlTest, HeartbeatsAreTheLastOneOfTheirSessionAndSeenWhenRead) {
    auto key = heartbeat_key(store_hash(ring, "s1"));
    Heartbeat beat;
    beat.store = "s1";
    beat.session = session;
    beat.counter = 5;
    EXPECT_EQ(apply(key, beat).store, "s1");
    EXPECT_EQ(control.store("s1")->seen, now);
    beat.counter = 4; // replayed by someone
    EXPECT_FALSE(control.apply(now + std::chrono::seconds(9), key, seal_control(ring, session, key, beat)).store);
    EXPECT_EQ(control.store("s1")->seen, now);
    EXPECT_EQ(control.store("s1")->heartbeat.counter, 5u);
    beat.session = Session::from("sessionB");
    beat.counter = 1;
    EXPECT_EQ(apply(key, beat).store, "s1");
    EXPECT_EQ(control.stores().size(), 1u);
    control.apply(now, key, {});
    EXPECT_FALSE(control.store("s1"));
}

TEST_F(ControlTest, StatesOperationsAndAnswersAreLastWriterWinsUntilTheirTombstone) {
    DestinationState state;
    state.account = "a@x";
    state.store = "s2";
    auto state_key = destination_key(account, store_hash(ring, "s2"));
    auto changed = apply(state_key, state);
    ASSERT_TRUE(changed.destination);
    EXPECT_EQ(*changed.destination, std::pair(account, std::string("s2")));
    state.position = {1, 9};
    apply(state_key, state);
    EXPECT_EQ(control.destination("a@x", "s2")->position, (Number{1, 9}));
    EXPECT_FALSE(control.destination("a@x", "s1"));

    Operation operation;
    operation.id = Guid::from("0123456789abcdef");
    EXPECT_EQ(apply(operation_key(operation.id), operation).operation, operation.id);
    operation.phase = OperationPhase::done;
    apply(operation_key(operation.id), operation);
    EXPECT_EQ(control.operation(operation.id)->phase, OperationPhase::done);
    CheckAnswer answer;
    answer.operation = operation.id;
    for (std::string store : {"s1", "s2"}) {
        answer.store = store;
        EXPECT_EQ(apply(check_answer_key(operation.id, store_hash(ring, store)), answer).operation, operation.id);
    }
    ASSERT_TRUE(control.check_answer(operation.id, "s2"));
    control.apply(now, check_answer_key(operation.id, store_hash(ring, "s1")), {});
    EXPECT_FALSE(control.check_answer(operation.id, "s1"));
    EXPECT_TRUE(control.check_answer(operation.id, "s2"));
    control.apply(now, operation_key(operation.id), {});
    EXPECT_FALSE(control.operation(operation.id));
    control.apply(now, state_key, {});
    EXPECT_FALSE(control.destination(account, "s2"));
}

TEST_F(ControlTest, OrdersTellWhichCameLater) {
    Operation operation;
    operation.id = Guid::from("0123456789abcdef");
    EXPECT_EQ(control.operation_order(operation.id), 0u);
    propose(1, "s1");
    apply(operation_key(operation.id), operation);
    EXPECT_LT(control.account_order(account), control.operation_order(operation.id));
    propose(1, "s2"); // a loser changes nothing
    EXPECT_LT(control.account_order(account), control.operation_order(operation.id));
    propose(2, "s2");
    EXPECT_GT(control.account_order(account), control.operation_order(operation.id));
}

// Whatever of the outdated keys was removed, and whenever a reader comes: all agree on who won.
TEST_F(ControlTest, ReadersOfACompactedLogAgree) {
    for (unsigned seed = 1; seed <= 50; seed++) {
        std::mt19937 random(seed);
        std::vector<std::pair<std::string, std::string>> log;
        Control reader(ring);
        for (int i = 0; i < 60; i++) {
            auto version = (reader.account(account) ? reader.account(account)->version : 0) + 1 - (random() % 3 == 0);
            if (version == 0) continue;
            auto proposal = record(version, "s" + std::to_string(random() % 3));
            auto key = key_of(proposal, proposal.source);
            log.emplace_back(key, seal_control(ring, session, key, proposal));
            reader.apply(now, log.back().first, log.back().second);
            if (random() % 4 != 0) continue;
            for (auto &outdated : reader.take_outdated_keys(account)) { // tombstones, compacted at once
                std::erase_if(log, [&](auto &message) { return message.first == outdated; });
                reader.apply(now, outdated, {});
            }
            Control fresh(ring);
            for (auto &[k, v] : log)
                fresh.apply(Time{}, k, v);
            ASSERT_EQ(*fresh.account(account), *reader.account(account)) << "seed " << seed << " message " << i;
        }
    }
}

} // namespace
} // namespace replica
