// Test support: an account's mailbox opened in this process, changed at random by its own mail API, its committed
// changes caught at the call-out, and everything that two replicas must have in common as lines of text. Thread: one.
// Fails: it ends the program, with the reason.
#pragma once
#include <random>
#include "tests/support/cbox_log.hpp"
#include "plugin/compat/service.hpp"

namespace replica::test {

class Account {
public:
    Account(struct mail_storage_service_ctx *ctx, const char *user);
    ~Account();
    Account(const Account &) = delete;

    void enter(); // its context becomes the process's
    void catch_changes(Log *log);
    void share_bodies(const Account &source) {
        storage_->account_id = source.storage_->account_id;
    } // as one account does
    // Like `source`, which may be null: then it gets a GUID and UIDVALIDITY of its own.
    void create(const char *name, Account *source);
    void open(const char *name);
    void close();

    struct mailbox *box() const {
        return box_;
    }
    const CboxApi &api() const { return *storage_->api; }
    void expect_refusals(bool on) { refused_ = on; } // commits fail, and that is right

    void save(unsigned mails, std::mt19937 &random);
    // One transaction of a random kind; its name for people. It may end up changing nothing.
    const char *step(std::mt19937 &random);
    void toggle(uint32_t seq, enum mail_flags flag);
    void expunge(uint32_t first_seq, uint32_t last_seq);

    std::vector<std::string> dump(bool with_mark = true);

private:
    struct mailbox_transaction_context *begin();
    void commit(struct mailbox_transaction_context *trans);
    void check(int ret, const char *what);
    void save_one(struct mailbox_transaction_context *trans, std::mt19937 &random);
    void change_mails(std::mt19937 &random, bool flags, bool keywords, bool expunges);
    void change_attributes(std::mt19937 &random);
    void update_headers(std::mt19937 &random);
    void copy_within(std::mt19937 &random);
    uint32_t mails();

    compat::OpenedUser opened_;
    CboxStorage *storage_ = nullptr;
    struct mailbox *box_ = nullptr;
    CboxCallout callout_{};
    bool refused_ = false;
};

// Ends the program with the first line that differs.
void expect_equal(const std::vector<std::string> &a, const std::vector<std::string> &b, const std::string &when);

} // namespace replica::test
