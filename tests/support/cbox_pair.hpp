// Test support: a source A with its log, and its replica B.
#pragma once
#include <algorithm>
#include "tests/support/cbox_account.hpp"

namespace replica::test {

inline constexpr unsigned lock_ms = 1000;
inline constexpr char mailbox_name[] = "Box";

double now(); // seconds
// Ends the program if `got` is not what it has to be.
void expect(Verdict got, Verdict wanted, const std::string &when, const std::string &text);

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

// cbox_tool_apply.cpp
void run_steps(Pair &pair, unsigned seed, unsigned steps);
void run_chain(Pair &pair);
void run_foreign(Pair &pair);
void run_doubt(Pair &pair, unsigned seed, unsigned steps);
void run_catch_up(Pair &pair);
void run_locked(Pair &pair);
// cbox_tool_snapshot.cpp
void run_snapshot(Pair &pair, unsigned seed, unsigned mails);
void run_damage(Pair &pair);
void run_bench(Pair &pair, unsigned mails);
void run_exchange(Pair &pair, double seconds, unsigned seed);
void run_contend(Pair &pair, double seconds);

} // namespace replica::test
