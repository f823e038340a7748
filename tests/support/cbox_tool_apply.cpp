#include <cstdio>
#include "tests/support/cbox_pair.hpp"

namespace replica::test {

void run_steps(Pair &pair, unsigned seed, unsigned steps) {
    std::mt19937 random(seed);
    pair.expect_same("before");
    for (unsigned i = 0; i < steps; ++i) {
        const size_t first = pair.log.changes.size();
        const std::string when =
            "seed " + std::to_string(seed) + " step " + std::to_string(i) + ", " + pair.a.step(random);
        pair.apply_from(first, Verdict::applied, when);
        pair.expect_same(when);
        if (i % 5 != 4) continue;
        const auto before = pair.b.dump();
        pair.apply_from(random() % pair.log.changes.size(), Verdict::skipped, when + ", replay");
        expect_equal(before, pair.b.dump(), when + ", replay");
    }
    printf("ok %zu changes in %u steps\n", pair.log.changes.size(), steps);
}

void run_chain(Pair &pair) {
    std::mt19937 random(1);
    pair.create();
    pair.a.save(3, random);
    pair.a.toggle(1, MAIL_FLAGGED);
    pair.a.toggle(2, MAIL_SEEN);
    std::string text;
    const auto untouched = pair.b.dump();
    expect(pair.apply(pair.log.changes[1], &text), Verdict::wanted, "a gap", text);
    expect(pair.apply(pair.log.changes[2], {}, &text), Verdict::diverged, "no previous, but a mark", text);
    expect_equal(untouched, pair.b.dump(), "a gap changes nothing");
    pair.apply_from(0, Verdict::applied, "in order");
    pair.expect_same("in order");

    pair.a.toggle(3, MAIL_DRAFT);
    Caught between = pair.log.changes.back();
    between.number = {1, between.number.sequence + 10};
    expect(pair.apply(between, {1, 2}, &text), Verdict::diverged, "a mark between previous and number", text);
    pair.b.toggle(1, MAIL_FLAGGED); // without a number: nobody answers the call-out of B
    expect(pair.apply(pair.log.changes.back(), &text), Verdict::diverged, "unlogged", text);
    printf("ok\n");
}

// The same UIDs and MODSEQs, but not the same mails.
void run_foreign(Pair &pair) {
    std::mt19937 random(2);
    pair.create();
    pair.a.save(2, random);
    pair.apply_from(0, Verdict::applied, "saves");
    pair.a.expunge(1, 1);
    auto change = *decode<MailboxChange>(pair.log.changes.back().payload);
    change.expunges[0].guid.bytes[0] ^= 1;
    Caught foreign = pair.log.changes.back();
    foreign.payload = encode(change);
    std::string text;
    expect(pair.apply(foreign, &text), Verdict::diverged, "another GUID under the UID", text);
    pair.apply_from(1, Verdict::applied, "the true expunge");
    pair.expect_same("the true expunge");

    // A mail that is gone already: the counter rises as at the source.
    pair.a.expunge(1, 1);
    change = *decode<MailboxChange>(pair.log.changes.back().payload);
    change.expunges.push_back({1, change.expunges[0].guid});
    Caught gone = pair.log.changes.back();
    gone.payload = encode(change);
    expect(pair.apply(gone, &text), Verdict::applied, "one of two is gone already", text);
    pair.expect_same("one of two is gone already");
    printf("ok\n");
}

// Changes that the log has and the source does not know of: rolled forward like a replica's.
void run_doubt(Pair &pair, unsigned seed, unsigned steps) {
    std::mt19937 random(seed);
    pair.create();
    for (unsigned i = 0; i < steps; ++i) {
        pair.log.doubt = i % 2 == 0;
        pair.a.expect_refusals(pair.log.doubt);
        const std::string when =
            "seed " + std::to_string(seed) + " step " + std::to_string(i) + ", " + pair.a.step(random);
        pair.catch_up(pair.a, "the source");
        pair.catch_up(pair.b, "the replica");
        pair.expect_same(when);
    }
    printf("ok %zu changes\n", pair.log.changes.size());
}

// After a crash of whoever: all of the log again, to both.
void run_catch_up(Pair &pair) {
    pair.open();
    pair.catch_up(pair.a, "the source");
    pair.catch_up(pair.b, "the replica");
    pair.expect_same("caught up");
    printf("ok %zu changes\n", pair.log.changes.size());
}

// Somebody holds the lock of B's index.
void run_locked(Pair &pair) {
    std::mt19937 random(6);
    pair.open();
    pair.a.save(1, random);
    std::string text;
    const double start = now();
    expect(pair.apply(pair.log.changes.back(), &text), Verdict::retry, "locked", text);
    printf("ok waited_ms=%.0f\n", (now() - start) * 1e3);
}

} // namespace replica::test
