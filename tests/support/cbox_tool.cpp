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
//   contend SECONDS     the same while sessions write to B
//   catchup 0 0 LOG     after a crash: all of the log again, to both
// random and steps take a LOG too: a file that keeps the changes from one run to the next.
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <unistd.h>
#include "tests/support/cbox_pair.hpp"

namespace replica::test {

namespace {

const char *name_of(Verdict verdict) {
    static const char *const names[] = {"applied", "skipped", "wanted", "diverged", "retry", "failed"};
    return names[static_cast<int>(verdict)];
}

} // namespace

double now() {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

void expect(Verdict got, Verdict wanted, const std::string &when, const std::string &text) {
    if (got != wanted) fail(when + ": " + name_of(got) + " (" + text + "), not " + name_of(wanted));
}

namespace {

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
    else if (command == "contend")
        run_contend(pair, number(3));
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
    const char *error;
    if (replica::compat::standalone_settings_read(&error) < 0) i_fatal("%s", error);
    master_service_init_finish(master_service);
    struct mail_storage_service_ctx *ctx = replica::compat::user_service_init();
    int ret = replica::test::run(ctx, argc - optind, argv + optind);
    mail_storage_service_deinit(&ctx);
    master_service_deinit(&master_service);
    return ret;
}
