#include <cstdio>
#include <sys/stat.h>
#include <unistd.h>
#include "plugin/cbox/cbox-bulk.hpp"
#include "tests/support/cbox_pair.hpp"

namespace replica::test {

namespace {

struct Taken {
    Number number;
    std::vector<Bulk> bulk;
    double locked, streamed;
};

template <class Meanwhile> Taken take_snapshot(Pair &pair, unsigned mails_max, Meanwhile meanwhile) {
    Taken taken{};
    SnapshotId id;
    id.bytes[0] = 7;
    pair.a.enter();
    const double start = now();
    CboxSnapshot *snapshot = pair.a.api().snapshot_begin(pair.a.box(), id, &taken.number);
    if (snapshot == nullptr) fail(std::string("snapshot: ") + mailbox_get_last_internal_error(pair.a.box(), nullptr));
    taken.locked = now() - start;
    for (int more = 1; more == 1;) {
        Bulk bulk;
        const double begin = now();
        more = pair.a.api().snapshot_next(snapshot, mails_max, &bulk);
        taken.streamed += now() - begin;
        if (more < 0) fail("snapshot_next");
        auto decoded = decode<Bulk>(encode(bulk));
        if (!decoded || *decoded != bulk) fail("a bulk record does not survive its codec");
        taken.bulk.push_back(std::move(*decoded));
        meanwhile();
    }
    pair.a.api().snapshot_end(&snapshot);
    return taken;
}

Verdict build(Account &b, const Taken &taken, std::string *text) {
    b.enter();
    CboxBuild *build = b.api().build_begin(b.box(), *taken.bulk.front().head);
    if (build == nullptr) fail(std::string("build_begin: ") + mailbox_get_last_internal_error(b.box(), nullptr));
    for (const Bulk &bulk : taken.bulk)
        if (b.api().build_add(build, bulk.mails) < 0)
            fail(std::string("build_add: ") + mailbox_get_last_internal_error(b.box(), nullptr));
    return b.api().build_commit(&build, taken.number, *taken.bulk.back().sum, lock_ms, text);
}

void expect_built(Pair &pair, const Taken &taken, const std::string &when) {
    std::string text;
    expect(build(pair.b, taken, &text), Verdict::applied, when, text);
    pair.b.open(mailbox_name);
}

} // namespace

void run_snapshot(Pair &pair, unsigned seed, unsigned mails) {
    std::mt19937 random(seed);
    pair.create();
    for (unsigned i = 0; i < mails; i += 100)
        pair.a.save(std::min(100u, mails - i), random);
    for (unsigned round = 0; round < 2; ++round) {
        for (unsigned i = 0; i < 20; ++i)
            (void)pair.a.step(random);
        auto frozen = pair.a.dump(false);
        size_t first_later = 0;
        auto taken = take_snapshot(pair, std::max(1u, mails / 20), [&] {
            if (first_later == 0) first_later = pair.log.changes.size();
            (void)pair.a.step(random);
        });
        std::string text;
        expect(build(pair.b, taken, &text), Verdict::applied, "build", text);
        if (round == 0) pair.b.open(mailbox_name); // else it stays open across the exchange
        expect_equal(frozen, pair.b.dump(false), "built");
        pair.apply_range(0, first_later, Verdict::skipped, "changes in the snapshot");
        pair.apply_from(first_later, Verdict::applied, "changes after the snapshot");
        pair.expect_same("caught up");
    }
    printf("ok\n");
}

namespace {

void expect_no_leftovers(Account &account, const std::string &when) {
    const std::string dir = std::string(account.box()->index->dir) + ".cbox-build";
    if (access(dir.c_str(), F_OK) == 0) fail(when + ": " + dir + " is left");
}

} // namespace

void run_damage(Pair &pair) {
    std::mt19937 random(3);
    pair.create();
    pair.a.save(10, random);
    const auto taken = take_snapshot(pair, 4, [] {});
    const auto untouched = pair.b.dump();
    std::string text;

    Taken wrong = taken;
    wrong.bulk.back().sum->digest[0] ^= 1;
    expect(build(pair.b, wrong, &text), Verdict::failed, "a wrong digest", text);
    wrong = taken;
    wrong.bulk[0].mails.pop_back();
    expect(build(pair.b, wrong, &text), Verdict::failed, "a mail is missing", text);
    wrong = taken;
    wrong.bulk[0].mails[1].flags ^= MAIL_FLAGGED;
    expect(build(pair.b, wrong, &text), Verdict::failed, "a flag is another", text);
    expect_equal(untouched, pair.b.dump(), "damaged builds");
    expect_no_leftovers(pair.b, "damaged builds");

    pair.b.enter();
    CboxBuild *open = pair.b.api().build_begin(pair.b.box(), *taken.bulk.front().head);
    std::vector<Append> backwards = {taken.bulk[0].mails[1], taken.bulk[0].mails[0]};
    if (pair.b.api().build_add(open, backwards) == 0) fail("UIDs out of order are taken");
    pair.b.api().build_abort(&open);
    expect_no_leftovers(pair.b, "abort");

    // A worker that died in a build leaves its directory.
    const std::string left = std::string(pair.b.box()->index->dir) + ".cbox-build";
    if (mkdir(left.c_str(), 0700) < 0) fail("mkdir");
    fclose(fopen((left + "/dovecot.index").c_str(), "w"));
    fclose(fopen((left + "/dovecot-acl").c_str(), "w"));
    expect_built(pair, taken, "after a crash");
    expect_equal(pair.a.dump(), pair.b.dump(), "after a crash");
    expect_no_leftovers(pair.b, "after a crash");
    if (access((std::string(pair.b.box()->index->dir) + "/dovecot-acl").c_str(), F_OK) < 0) fail("the ACL is lost");
    expect(build(pair.b, taken, &text), Verdict::skipped, "a build of what is there already", text);

    pair.b.toggle(1, MAIL_ANSWERED); // without a number
    const auto later = take_snapshot(pair, 100, [] {});
    expect(build(pair.b, later, &text), Verdict::diverged, "unlogged", text);
    printf("ok\n");
}

namespace {

std::vector<Append> synthetic(unsigned mails) {
    std::vector<Append> appends(mails);
    for (unsigned i = 0; i < mails; ++i) {
        Append &mail = appends[i];
        mail.uid = i + 1;
        memcpy(mail.guid.bytes.data(), &mail.uid, sizeof(mail.uid));
        mail.blob = mail.guid;
        mail.physical_size = mail.virtual_size = 1000 + i;
        mail.received = mail.saved = 1700000000 + i;
        if (i % 3 == 0) mail.flags = MAIL_SEEN;
        if (i % 10 == 0) mail.keywords = {"work"};
        mail.modseq = 2 + i;
    }
    return appends;
}

void fill(Pair &pair, unsigned mails) {
    Bulk bulk;
    bulk.head = Bulk::Head{};
    bulk.head->uid_validity = 1000;
    bulk.head->next_uid = mails + 1;
    bulk.head->highest_modseq = mails + 10;
    bulk.head->mails = mails;
    bulk.mails = synthetic(mails);
    BulkDigest digest;
    for (const Append &mail : bulk.mails)
        digest.add(mail);
    bulk.sum = digest.sum();
    std::string text;
    const Taken taken{{1, ++pair.log.sequence}, {bulk}, 0, 0};
    expect(build(pair.a, taken, &text), Verdict::applied, "fill", text);
    pair.a.open(mailbox_name);
}

} // namespace

void run_bench(Pair &pair, unsigned mails) {
    std::mt19937 random(4);
    pair.create();
    fill(pair, mails);
    const auto taken = take_snapshot(pair, 1000, [] {});
    double start = now();
    expect_built(pair, taken, "build");
    const double built = now() - start;
    pair.expect_same("built");
    printf("snapshot mails=%u locked_ms=%.1f stream_s=%.2f build_s=%.2f\n", mails, taken.locked * 1e3, taken.streamed,
           built);

    constexpr unsigned appends = 1000, flags = 3000;
    const size_t first = pair.log.changes.size();
    for (unsigned i = 0; i < appends; ++i)
        pair.a.save(1, random);
    const size_t second = pair.log.changes.size();
    for (unsigned i = 0; i < flags; ++i)
        pair.a.toggle(1 + i % mails, MAIL_FLAGGED);
    start = now();
    pair.apply_range(first, second, Verdict::applied, "appends");
    const double appended = now() - start;
    start = now();
    pair.apply_from(second, Verdict::applied, "flags");
    const double flagged = now() - start;
    start = now();
    pair.apply_from(first, Verdict::skipped, "replay");
    const double replayed = now() - start;
    pair.expect_same("applied");
    printf("ok appends/s=%.0f flags/s=%.0f skips/s=%.0f\n", appends / appended, flags / flagged,
           (appends + flags) / replayed);
}

void run_exchange(Pair &pair, double seconds, unsigned seed) {
    std::mt19937 random(seed);
    pair.open();
    const double until = now() + seconds;
    unsigned exchanges = 0;
    for (; now() < until; ++exchanges) {
        for (unsigned i = 0; i < 5; ++i)
            (void)pair.a.step(random);
        size_t first_later = 0;
        const auto taken = take_snapshot(pair, 50, [&] {
            if (first_later == 0) first_later = pair.log.changes.size();
            (void)pair.a.step(random);
        });
        expect_built(pair, taken, "build");
        pair.apply_from(first_later, Verdict::applied, "after the exchange");
        pair.expect_same("after the exchange");
    }
    printf("ok exchanges=%u changes=%zu\n", exchanges, pair.log.changes.size());
}

// Sessions write to the replica meanwhile, which no log has: builds are refused until its mark is set right by hand.
void run_contend(Pair &pair, double seconds) {
    std::mt19937 random(8);
    pair.open();
    unsigned built = 0, refused = 0;
    const double until = now() + seconds;
    for (bool last = false; !last;) {
        last = now() >= until;
        (void)pair.a.step(random);
        const auto taken = take_snapshot(pair, 100, [] {});
        std::string text;
        Verdict verdict;
        while ((verdict = build(pair.b, taken, &text)) == Verdict::diverged) {
            ++refused;
            Mark mark;
            if (pair.b.api().mark_get(pair.b.box(), &mark) < 0 ||
                pair.b.api().mark_set(pair.b.box(), mark.number, false) < 0)
                fail("the mark");
        }
        expect(verdict, Verdict::applied, "build", text);
        ++built;
    }
    printf("ok built=%u refused=%u\n", built, refused);
}

} // namespace replica::test
