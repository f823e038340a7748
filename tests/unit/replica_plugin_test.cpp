// The parts of the plugin that know no Dovecot: the control dir's file, fail-fast, and the client of the agent's socket
// against a scripted agent.
#include "plugin/replica/replica-agent-client.hpp"
#include "plugin/replica/replica-control-dir.hpp"
#include <cstdlib>
#include <fstream>
#include <functional>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

namespace replica {
namespace {

using std::chrono::milliseconds;

TEST(ControlDir, AStateOfEachRoleIsRead) {
    for (Role role : {Role::source, Role::destination, Role::removed}) {
        auto state = parse_control_state("1 " + std::string(to_string(role)) + " 18446744073709551615 boot-1\n");
        ASSERT_TRUE(state) << state.error().message;
        EXPECT_EQ(state->role, role);
        EXPECT_EQ(state->epoch, UINT64_MAX);
        EXPECT_EQ(state->boot, "boot-1");
    }
}

TEST(ControlDir, WhatIsNotExactlyOneKnownLineIsRefused) {
    const std::string good = "1 source 7 boot\n";
    ASSERT_TRUE(parse_control_state(good));
    for (size_t n = 0; n < good.size(); n++)
        EXPECT_FALSE(parse_control_state(good.substr(0, n))) << n;
    for (const char *bad : {"2 source 7 boot\n", "1 none 7 boot\n", "1 sources 7 boot\n", "1 source -7 boot\n",
                            "1 source 7x boot\n", "1 source  boot\n", "1 source 7 boot x\n", "1 source 7 boot\n\n",
                            "\n1 source 7 boot\n", "1 source 18446744073709551616 boot\n"})
        EXPECT_FALSE(parse_control_state(bad)) << bad;
}

TEST(ControlDir, NoFileMeansNotReplicatedAndAnUnreadableOneDoesNot) {
    char dir[] = "/tmp/replica-control-XXXXXX";
    ASSERT_NE(mkdtemp(dir), nullptr);
    std::string path = std::string(dir) + "/state";
    auto absent = read_control_state(path.c_str());
    ASSERT_TRUE(absent);
    EXPECT_FALSE(*absent);
    auto below_a_file = read_control_state("/proc/self/cmdline/.replica/state");
    ASSERT_TRUE(below_a_file);
    EXPECT_FALSE(*below_a_file);

    std::ofstream(path) << "1 destination 3 b\n";
    auto present = read_control_state(path.c_str());
    ASSERT_TRUE(present && *present);
    EXPECT_EQ((*present)->role, Role::destination);

    std::ofstream(path) << "1 dest";
    EXPECT_FALSE(read_control_state(path.c_str()));
    EXPECT_FALSE(read_control_state(dir)); // a directory where the file should be
    unlink(path.c_str());
    rmdir(dir);
}

TEST(ControlDir, ThisBootHasAnId) { EXPECT_EQ(current_boot().size(), 36u); }

TEST(FailFast, AsksAtFullLengthUntilSomethingFails) {
    FailFast fail_fast;
    Clock::time_point now;
    EXPECT_EQ(fail_fast.allowed(now, milliseconds(5000)), milliseconds(5000));
    EXPECT_EQ(fail_fast.allowed(now, milliseconds(5000)), milliseconds(5000));
}

TEST(FailFast, AfterAFailureOneShortProbePerSecondUntilAnAnswer) {
    FailFast fail_fast;
    Clock::time_point now;
    fail_fast.failed(now);
    int probes = 0;
    for (int ms = 0; ms < 10000; ms += 10) {
        auto allowed = fail_fast.allowed(now + milliseconds(ms), milliseconds(5000));
        if (allowed.count() == 0) continue;
        EXPECT_EQ(allowed, FailFast::probe_wait);
        probes++;
    }
    EXPECT_EQ(probes, 9);
    fail_fast.answered();
    EXPECT_EQ(fail_fast.allowed(now, milliseconds(5000)), milliseconds(5000));
}

// An agent that does to each connection what its script says, then closes it.
class ScriptedAgent {
public:
    class Connection {
    public:
        explicit Connection(int fd) : fd_(fd) {}
        std::optional<ClientFrame> next() {
            while (true) {
                auto frame = splitter_.next();
                if (frame && *frame) {
                    auto decoded = decode_client_frame(**frame);
                    EXPECT_TRUE(decoded);
                    return *decoded;
                }
                char buffer[1 << 16];
                ssize_t got = read(fd_, buffer, sizeof buffer);
                if (got <= 0) return {};
                splitter_.feed({buffer, static_cast<size_t>(got)});
            }
        }
        template <class T> T expect() {
            auto frame = next();
            if (frame && std::holds_alternative<T>(*frame)) return std::get<T>(*frame);
            ADD_FAILURE() << "another frame, or none";
            return {};
        }
        void send(const AgentFrame &frame) { send_raw(encode_frame(frame)); }
        void send_raw(const std::string &bytes) {
            EXPECT_EQ(write(fd_, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
        }

    private:
        int fd_;
        FrameSplitter splitter_;
    };
    using Script = std::function<void(Connection &)>;

    explicit ScriptedAgent(std::vector<Script> scripts) : scripts_(std::move(scripts)) {
        EXPECT_NE(mkdtemp(dir_), nullptr);
        path_ = std::string(dir_) + "/agent";
        listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path_.copy(address.sun_path, sizeof address.sun_path - 1);
        EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr *>(&address), sizeof address), 0);
        EXPECT_EQ(listen(listener_, 8), 0);
        thread_ = std::thread([this] {
            for (auto &script : scripts_) {
                int fd = accept(listener_, nullptr, nullptr);
                if (fd < 0) return;
                Connection connection(fd);
                script(connection);
                close(fd);
                served_++;
            }
        });
    }
    ~ScriptedAgent() {
        shutdown(listener_, SHUT_RDWR);
        thread_.join();
        EXPECT_EQ(served_, scripts_.size());
        close(listener_);
        unlink(path_.c_str());
        rmdir(dir_);
    }
    AgentClient::Config config(milliseconds timeout = milliseconds(2000)) const { return {path_, "imap", timeout}; }

private:
    char dir_[32] = "/tmp/replica-agent-XXXXXX";
    std::string path_;
    int listener_;
    std::vector<Script> scripts_;
    size_t served_ = 0;
    std::thread thread_;
};
using Connection = ScriptedAgent::Connection;

const Object mailbox_object{"", Guid::from("0123456789abcdef")};
Change some_change() { return {mailbox_object, ChangeKind::mailbox, {}, {1, 4}, "payload"}; }

TEST(AgentClient, SaysHelloAsksAndTellsDoneOnOneConnection) {
    ScriptedAgent agent({[](Connection &connection) {
        auto hello = connection.expect<Hello>();
        EXPECT_EQ(hello.version, agent_protocol_version);
        EXPECT_EQ(hello.service, "imap");
        EXPECT_EQ(hello.pid, static_cast<uint32_t>(getpid()));
        auto clear = connection.expect<Clear>();
        EXPECT_EQ(clear.account, "a@x");
        EXPECT_EQ(clear.object, mailbox_object);
        EXPECT_EQ(clear.mark, (Mark{{1, 4}, false}));
        connection.send(Answer{clear.request, Reason::none, ""});
        auto change = connection.expect<ChangeFrame>();
        EXPECT_EQ(change.account, "a@x");
        EXPECT_EQ(change.change, some_change());
        EXPECT_GT(change.request, clear.request);
        connection.send(Ack{change.request, {1, 5}});
        auto done = connection.expect<Done>();
        EXPECT_EQ(done.request, change.request);
        EXPECT_FALSE(done.ok);
    }});
    AgentClient client(agent.config());
    EXPECT_EQ(client.clear("a@x", mailbox_object, {{1, 4}, false}, milliseconds(2000)).reason, Reason::none);
    AgentReply reply = client.commit("a@x", {{1, 4}, false}, some_change());
    EXPECT_EQ(reply.reason, Reason::none);
    EXPECT_EQ(reply.number, (Number{1, 5}));
    client.done(reply.ticket, false);
}

TEST(AgentClient, ARefusalCarriesItsReasonAndSentence) {
    ScriptedAgent agent({[](Connection &connection) {
        connection.expect<Hello>();
        auto change = connection.expect<ChangeFrame>();
        connection.send(Refused{change.request, Reason::behind, "it is rolled forward"});
        auto clear = connection.expect<Clear>();
        connection.send(Answer{clear.request, Reason::not_source, "store2 is"});
    }});
    AgentClient client(agent.config());
    AgentReply reply = client.commit("a@x", {}, some_change());
    EXPECT_EQ(reply.reason, Reason::behind);
    EXPECT_EQ(reply.text, "it is rolled forward");
    EXPECT_FALSE(reply.in_doubt);
    EXPECT_EQ(client.clear("a@x", mailbox_object, {}, milliseconds(2000)).reason, Reason::not_source);
}

TEST(AgentClient, AnswersToOthersAreNotTaken) {
    ScriptedAgent agent({[](Connection &connection) {
        connection.expect<Hello>();
        auto change = connection.expect<ChangeFrame>();
        connection.send(Ack{change.request - 1, {1, 99}});
        connection.send(Answer{change.request + 7, Reason::none, ""});
        connection.send(Ack{change.request, {1, 5}});
    }});
    AgentClient client(agent.config());
    EXPECT_EQ(client.commit("a@x", {}, some_change()).number, (Number{1, 5}));
}

TEST(AgentClient, AnAgentThatWasReplacedIsFoundAgainSilently) {
    auto serve_one = [](Connection &connection) {
        connection.expect<Hello>();
        auto clear = connection.expect<Clear>();
        connection.send(Answer{clear.request, Reason::none, ""});
    };
    ScriptedAgent agent({serve_one, serve_one, serve_one});
    AgentClient client(agent.config());
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(client.clear("a@x", mailbox_object, {}, milliseconds(2000)).reason, Reason::none) << i;
}

TEST(AgentClient, AChangeWhoseConnectionIsLostIsOfferedOnceMoreAndNotTwice) {
    uint64_t first_request = 0;
    auto lose = [&](Connection &connection) {
        connection.expect<Hello>();
        first_request = connection.expect<ChangeFrame>().request;
    };
    {
        ScriptedAgent agent({lose, [&](Connection &connection) {
                                 connection.expect<Hello>();
                                 auto change = connection.expect<ChangeFrame>();
                                 EXPECT_EQ(change.request, first_request);
                                 EXPECT_EQ(change.change, some_change());
                                 connection.send(Ack{change.request, {1, 5}});
                             }});
        AgentClient client(agent.config());
        EXPECT_EQ(client.commit("a@x", {}, some_change()).number, (Number{1, 5}));
    }
    ScriptedAgent agent({lose, lose});
    AgentClient client(agent.config());
    AgentReply reply = client.commit("a@x", {}, some_change());
    EXPECT_EQ(reply.reason, Reason::unavailable);
    EXPECT_FALSE(reply.known);
    EXPECT_TRUE(reply.in_doubt);
    AgentReply next = client.commit("a@x", {}, some_change());
    EXPECT_TRUE(next.known);
    EXPECT_FALSE(next.in_doubt);
}

TEST(AgentClient, WhatIsAskedWithoutWaitingIsNotTakenForTheNextAnswer) {
    ScriptedAgent agent({[](Connection &connection) {
        connection.expect<Hello>();
        auto first = connection.expect<Clear>();
        connection.send(Answer{first.request, Reason::none, ""});
        auto asked = connection.expect<Clear>();
        EXPECT_TRUE(asked.mark.unlogged);
        auto change = connection.expect<ChangeFrame>();
        connection.send(Answer{asked.request, Reason::stopped, "late"});
        connection.send(Ack{change.request, {1, 5}});
    }});
    AgentClient client(agent.config());
    client.ask_for_clear("a@x", mailbox_object, {{1, 4}, true}); // not connected: nobody is told
    client.clear("a@x", mailbox_object, {}, milliseconds(2000));
    client.ask_for_clear("a@x", mailbox_object, {{1, 4}, true});
    EXPECT_EQ(client.commit("a@x", {}, some_change()).number, (Number{1, 5}));
}

TEST(AgentClient, ARefusalOfTheSecondCopySaysNothingOfTheFirst) {
    ScriptedAgent agent({[](Connection &connection) {
                             connection.expect<Hello>();
                             connection.expect<ChangeFrame>();
                         },
                         [](Connection &connection) {
                             connection.expect<Hello>();
                             auto change = connection.expect<ChangeFrame>();
                             connection.send(Refused{change.request, Reason::behind, "the first copy counts"});
                         }});
    AgentClient client(agent.config());
    AgentReply reply = client.commit("a@x", {}, some_change());
    EXPECT_EQ(reply.reason, Reason::behind);
    EXPECT_TRUE(reply.in_doubt);
}

TEST(AgentClient, DoneIsNotToldToAnotherConnection) {
    ScriptedAgent agent({[](Connection &connection) {
                             connection.expect<Hello>();
                             auto change = connection.expect<ChangeFrame>();
                             connection.send(Ack{change.request, {1, 5}});
                         },
                         [](Connection &connection) {
                             connection.expect<Hello>();
                             auto clear = connection.expect<Clear>();
                             connection.send(Answer{clear.request, Reason::none, ""});
                             EXPECT_FALSE(connection.next());
                         }});
    AgentClient client(agent.config());
    AgentReply reply = client.commit("a@x", {}, some_change());
    EXPECT_EQ(client.clear("a@x", mailbox_object, {}, milliseconds(2000)).reason, Reason::none);
    client.done(reply.ticket, true);
}

TEST(AgentClient, ASilentAgentCostsOneTimeoutAndThenNothing) {
    ScriptedAgent agent({[](Connection &connection) {
        connection.expect<Hello>();
        connection.expect<ChangeFrame>();
        EXPECT_FALSE(connection.next()); // it is closed: the change is in doubt
    }});
    AgentClient client(agent.config(milliseconds(300)));
    auto begin = Clock::now();
    AgentReply first = client.commit("a@x", {}, some_change());
    auto waited = Clock::now() - begin;
    EXPECT_EQ(first.reason, Reason::unavailable);
    EXPECT_FALSE(first.known);
    EXPECT_TRUE(first.in_doubt);
    EXPECT_GE(waited, milliseconds(300));

    begin = Clock::now();
    for (int i = 0; i < 50; i++) {
        EXPECT_TRUE(client.clear("a@x", mailbox_object, {}, milliseconds(300)).known);
        EXPECT_TRUE(client.commit("a@x", {}, some_change()).known);
    }
    EXPECT_LT(Clock::now() - begin, milliseconds(100 * 300 / 2));
}

TEST(AgentClient, AnAnsweredProbeEndsFailFastAlsoBeforeAListChange) {
    ScriptedAgent agent({[](Connection &connection) {
                             connection.expect<Hello>();
                             connection.expect<Clear>();
                             EXPECT_FALSE(connection.next());
                         },
                         [](Connection &connection) {
                             connection.expect<Hello>();
                             auto probe = connection.expect<Clear>();
                             connection.send(Answer{probe.request, Reason::none, ""});
                             auto change = connection.expect<ChangeFrame>();
                             connection.send(Ack{change.request, {1, 5}});
                         }});
    AgentClient client(agent.config(milliseconds(2000)));
    EXPECT_EQ(client.clear("a@x", mailbox_object, {}, milliseconds(50)).reason, Reason::unavailable);
    AgentReply reply;
    auto begin = Clock::now();
    do
        reply = client.commit("a@x", {}, some_change());
    while (reply.known && Clock::now() - begin < milliseconds(60000));
    EXPECT_EQ(reply.number, (Number{1, 5}));
    EXPECT_GE(Clock::now() - begin, milliseconds(900));
}

TEST(AgentClient, NoAgentIsRefusedAtOnceAndFoundWhenItComes) {
    AgentClient client({"/nonexistent/replica", "lmtp", milliseconds(5000)});
    auto begin = Clock::now();
    AgentReply reply = client.clear("a@x", mailbox_object, {}, milliseconds(5000));
    EXPECT_EQ(reply.reason, Reason::unavailable);
    EXPECT_FALSE(reply.known);
    EXPECT_NE(reply.text.find("/nonexistent/replica"), std::string::npos);
    EXPECT_TRUE(client.clear("a@x", mailbox_object, {}, milliseconds(5000)).known);
    EXPECT_LT(Clock::now() - begin, milliseconds(5000));
}

TEST(AgentClient, GarbageIsNotTakenForAnAnswer) {
    auto garbage = [](Connection &connection) {
        connection.expect<Hello>();
        connection.expect<ChangeFrame>();
        connection.send_raw(std::string("\xff\xff\xff\xff garbage", 12));
    };
    ScriptedAgent agent({garbage, garbage});
    AgentClient client(agent.config());
    EXPECT_EQ(client.commit("a@x", {}, some_change()).reason, Reason::unavailable);
}

TEST(AgentClient, AChangeBeyondAFrameIsRefusedWithoutAsking) {
    AgentClient client({"/nonexistent/replica", "imap", milliseconds(5000)});
    Change change = some_change();
    change.payload.assign(frame_bytes_max, 'x');
    EXPECT_EQ(client.commit("a@x", {}, std::move(change)).reason, Reason::too_large);
}

TEST(AgentClient, ALargeChangeGoesThroughASlowReader) {
    std::string payload(8u << 20, 'x');
    ScriptedAgent agent({[&](Connection &connection) {
        connection.expect<Hello>();
        auto change = connection.expect<ChangeFrame>();
        EXPECT_EQ(change.change.payload, payload);
        connection.send(Ack{change.request, {1, 5}});
    }});
    AgentClient client(agent.config(milliseconds(10000)));
    Change change = some_change();
    change.payload = payload;
    EXPECT_EQ(client.commit("a@x", {}, std::move(change)).number, (Number{1, 5}));
}

} // namespace
} // namespace replica
