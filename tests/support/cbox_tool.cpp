// Drives the applier, snapshots and builds of cbox between the mailboxes of two accounts of one store. Each command
// ends with "ok" and what it measured, or with exit 1 and the first thing that was not as it has to be.
//   random SEED STEPS   every change of A, applied to B: equal after each, replays change nothing
//   steps SEED STEPS    the same, with the Box that both have already
//   chain               what the applier does with a break in the chain
//   foreign             and with mails that are not the source's
//   doubt SEED STEPS    changes that the log has and the source was not told of, rolled forward
//   locked              while somebody else holds the lock of B's index
//   snapshot SEED MAILS frozen while A lives on; built at B, twice; then B catches up
//   damage              builds that must not come to pass
//   bench MAILS         rates
//   exchange SECONDS SEED [LOG]  B is rebuilt again and again under A's changes, for sessions to look on
//   catchup 0 0 LOG     after a crash: all of the log again, to both
// random and steps take a LOG too: a file that keeps the changes from one run to the next.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <sys/stat.h>
#include <unistd.h>
#include "plugin/cbox/cbox-bulk.hpp"
#include "tests/support/cbox_account.hpp"

namespace replica::test {

namespace {

constexpr unsigned lock_ms = 1000;
constexpr char mailbox_name[] = "Box";

double now() {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

const char *name_of(Verdict verdict) {
    static const char *const names[] = {"applied", "skipped", "wanted", "diverged", "retry", "failed"};
    return names[static_cast<int>(verdict)];
}

void expect(Verdict got, Verdict wanted, const std::string &when, const std::string &text) {
    if (got != wanted) fail(when + ": " + name_of(got) + " (" + text + "), not " + name_of(wanted));
}

struct Pair {
    Pair(struct mail_storage_service_ctx *ctx, const char *user_a, const char *user_b)
        : a(ctx, user_a), b(ctx, user_b) {
        a.catch_changes(&log);
        b.share_bodies(a);
    }
    void create() {
        a.create(mailbox_name, nullptr);
        b.create(mailbox_name, &a);
    }
    void open() {
        a.open(mailbox_name);
        b.open(mailbox_name);
        Mark mark;
        a.enter();
        if (a.api().mark_get(a.box(), &mark) < 0) fail("no mark");
        log.sequence = std::max(log.sequence, mark.number.sequence);
    }
    Verdict apply(const Caught &caught, std::string *text) { return apply(caught, caught.previous, text); }
    Verdict apply(const Caught &caught, const Number &previous, std::string *text) {
        return apply_to(b, caught, previous, text);
    }
    static Verdict apply_to(Account &to, const Caught &caught, const Number &previous, std::string *text) {
        to.enter();
        if (caught.kind == ChangeKind::snapshot)
            return to.api().apply_mark(to.box(), caught.number, previous, lock_ms, text);
        return to.api().apply(to.box(), caught.number, previous, *decode<MailboxChange>(caught.payload), lock_ms, text);
    }
    // The whole log: what is contained is skipped, all that follows is applied.
    void catch_up(Account &to, const std::string &who) {
        bool applying = false;
        for (const Caught &caught : log.changes) {
            std::string text;
            Verdict verdict = apply_to(to, caught, caught.previous, &text);
            if (verdict == Verdict::skipped && !applying) continue;
            applying = true;
            expect(verdict, Verdict::applied, who + " catches up with " + to_string(caught.number), text);
        }
    }
    void apply_range(size_t first, size_t last, Verdict wanted, const std::string &when) {
        for (size_t i = first; i < last; ++i) {
            std::string text;
            expect(apply(log.changes[i], &text), wanted, when + ", change " + to_string(log.changes[i].number), text);
        }
    }
    void apply_from(size_t first, Verdict wanted, const std::string &when) {
        apply_range(first, log.changes.size(), wanted, when);
    }
    void expect_same(const std::string &when) { expect_equal(a.dump(), b.dump(), when); }

    Log log;
    Account a, b;
};

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

void expect_no_leftovers(Account &account, const std::string &when) {
    const std::string dir = std::string(account.box()->index->dir) + ".cbox-build";
    if (access(dir.c_str(), F_OK) == 0) fail(when + ": " + dir + " is left");
}

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

int run(struct mail_storage_service_ctx *ctx, int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "cbox_tool -c CONF USER_A USER_B COMMAND [ARGUMENT ...]\n");
        return 2;
    }
    const std::string command = argv[2];
    auto number = [&](int index) {
        return index < argc ? static_cast<unsigned>(strtoul(argv[index], nullptr, 10)) : 0;
    };
    Pair pair(ctx, argv[0], argv[1]);
    if (argc > 5) pair.log.keep_in(argv[5]);
    if (command == "random") {
        pair.create();
        run_steps(pair, number(3), number(4));
    } else if (command == "steps") {
        pair.open();
        run_steps(pair, number(3), number(4));
    } else if (command == "chain")
        run_chain(pair);
    else if (command == "foreign")
        run_foreign(pair);
    else if (command == "doubt")
        run_doubt(pair, number(3), number(4));
    else if (command == "catchup")
        run_catch_up(pair);
    else if (command == "locked")
        run_locked(pair);
    else if (command == "snapshot")
        run_snapshot(pair, number(3), number(4));
    else if (command == "damage")
        run_damage(pair);
    else if (command == "bench")
        run_bench(pair, number(3));
    else if (command == "exchange")
        run_exchange(pair, number(3), number(4));
    else
        fail("no such command: " + command);
    return 0;
}

} // namespace

} // namespace replica::test

int main(int argc, char **argv) {
    master_service = master_service_init("cbox-tool", replica::compat::standalone_flags, &argc, &argv, "");
    if (master_getopt(master_service) > 0) return 2;
    master_service_init_log(master_service);
    master_service_init_finish(master_service);
    struct mail_storage_service_ctx *ctx = replica::compat::user_service_init();
    int ret = replica::test::run(ctx, argc - optind, argv + optind);
    mail_storage_service_deinit(&ctx);
    master_service_deinit(&master_service);
    return ret;
}
