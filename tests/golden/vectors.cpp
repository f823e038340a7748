#include "tests/golden/vectors.hpp"
#include "lib/seal/envelope_layout.hpp"
#include "lib/wire/control.hpp"
#include "lib/wire/frame.hpp"
#include "lib/wire/worker.hpp"
#include <cstdlib>
#include <fstream>
#include <numeric>
#include <sstream>

namespace replica::golden {
namespace {

// Bytes that tell where they came from: first, first + 1, ...
template <class IdType> IdType id(uint8_t first) {
    IdType id;
    std::iota(id.bytes.begin(), id.bytes.end(), first);
    return id;
}

const Object list{"Shared/", {}};
const Object inbox{"", id<Guid>(0x10)};
const Place place{"replica.changes.store1.example.com", 5};
const EpochPlace epoch_place{3, place, 81985, 1207};
const Mark mark{{3, 1206}, true};

Append append(uint32_t uid) {
    Append a;
    a.uid = uid;
    a.guid = id<Guid>(0x20);
    a.blob = id<Guid>(0x30);
    a.physical_size = 5'000'000'000;
    a.virtual_size = 5'000'000'123;
    a.received = 1700000000;
    a.saved = 1700000001;
    a.flags = 0x09;
    a.keywords = {"$Forwarded", "Junk"};
    a.pop3_uidl = "00000042deadbeef";
    a.pop3_order = 7;
    a.modseq = 4711;
    a.cache = "cached";
    return a;
}

MailboxChange mailbox_change() {
    MailboxChange c;
    c.base_modseq = 4710;
    c.modseq = 4715;
    c.uid_validity = 1699999999;
    c.next_uid = 43;
    c.appends = {append(41), append(42)};
    c.appends[1].keywords.clear();
    c.flags = {{{1, 7}, 0x08, 0x01}, {{9, 9}, 0x00, 0x1f}};
    c.keywords = {{"Work", true, {{1, 2}, {5, 5}}}, {"Later", false, {{3, 4}}}};
    c.expunges = {{8, id<Guid>(0x40)}};
    c.attributes = {{true, "vendor/comment", std::string("a\0b", 3)}, {false, "gone", std::nullopt}};
    c.header = {1700000002, 100, 5000};
    return c;
}

const ListCreate create{id<Guid>(0x50), {"Projects", "Löwe"}, 1700000003};

Bulk bulk_first() {
    Bulk b{inbox, id<SnapshotId>(0x60), 0, Bulk::Head{1699999999, 43, 4715, 100000, {{true, "key", "value"}}}, {}, {}};
    b.mails = {append(1), append(2)};
    return b;
}
Bulk bulk_last() {
    Bulk b{inbox, id<SnapshotId>(0x60), 9, {}, {append(42)}, Bulk::Sum{100000, {}}};
    b.sum->digest = id<AccountKey>(0x70).bytes;
    return b;
}

Change change() { return {inbox, ChangeKind::mailbox, {}, {3, 1206}, encode(mailbox_change())}; }
Change list_change() { return {list, ChangeKind::list_create, create.mailbox, {3, 1199}, encode(create)}; }

Record record(RecordKind kind) {
    Record r{kind, {}, {}, {}};
    if (kind == RecordKind::changes) r.changes = {change(), list_change()};
    if (kind == RecordKind::open) r.open = Open{{2, 77}, place};
    if (kind == RecordKind::bulk) r.bulk = encode(bulk_last());
    return r;
}

AccountFacts facts() {
    AccountFacts f;
    f.exists = true;
    f.user = "u0001@example.com";
    f.uid = "vmail";
    f.gid = "mail";
    f.home = "/var/mail/u0001";
    f.mail_root = "/var/mail/u0001/mail";
    f.blob_root = "posix:/var/blobs";
    f.device = 2049;
    f.settings = "driver=cbox\nlayout=index\n";
    f.unfit = "INDEX=MEMORY";
    f.not_covered = {"Public/"};
    f.objects = {{list, {}, {{3, 1}, false}, 0, 0}, {inbox, {"INBOX"}, mark, 1234, 1699999999}};
    return f;
}

Reply reply() {
    return {12, Verdict::wanted, "index is missing", {Verdict::applied, Verdict::skipped}, facts(), "probe", {3, 1208}};
}

Heartbeat heartbeat() {
    return {"store1.example.com", id<Session>(0x80), 17,   1700000004567, "store1", "/run/dovecot", "0.1.0", "a1b2c3",
            "192.0.2.1",          {{place, 81999}},  1000, 2000};
}

DestinationState destination_state() {
    return {"u0001@example.com", "store2.example.com", 4,  {3, 1207}, {3, 1200}, DestinationPhase::stopped, true,
            {list, inbox},       "diverged",           50, 100};
}

Operation operation() {
    return {id<Guid>(0x90),
            OperationKind::promote,
            OperationPhase::failed,
            "store2.example.com",
            "store2.example.com",
            10,
            true,
            {"u0001@example.com", "u0002@example.com"},
            "not complete",
            1700000005000,
            1700000006000};
}

CheckAnswer check_answer() {
    return {id<Guid>(0x90),
            "store1.example.com",
            {{"u0001@example.com", "no such user", "driver=cbox", epoch_place}},
            "clock",
            "probe-1 content"};
}

template <class T> Result<std::string> recode_value(std::string_view bytes) {
    auto value = decode<T>(bytes);
    if (!value) return value.error();
    return encode(*value);
}
template <auto decode_frame> Result<std::string> recode_frame(std::string_view bytes) {
    auto frame = decode_frame(bytes);
    if (!frame) return frame.error();
    return encode_frame(*frame).substr(4);
}
Result<std::string> recode_envelope(std::string_view bytes) {
    auto opened = open(ring(), bytes);
    if (!opened) return opened.error();
    return seal_with_nonce(ring(), opened->header, nonce, opened->plaintext);
}

template <class T> void add_value(std::vector<Vector> &all, std::string name, const T &value) {
    all.push_back({std::move(name), encode(value), recode_value<T>});
}

void add_changes(std::vector<Vector> &all) {
    add_value(all, "mailbox_change", mailbox_change());
    add_value(all, "mailbox_change_empty", MailboxChange{});
    add_value(all, "snapshot_change", SnapshotChange{id<SnapshotId>(0x60), true});
    add_value(all, "list_create", create);
    add_value(all, "list_delete", ListDelete{create.mailbox, create.name});
    add_value(all, "list_rename", ListRename{create.mailbox, create.name, {"Archive", "Löwe"}});
    add_value(all, "list_subscription", ListSubscription{create.name, true});
    add_value(all, "list_snapshot", ListSnapshot{{create, {{}, {"Folder"}, 0}}, {{"INBOX"}, create.name}});
    add_value(all, "bulk_first", bulk_first());
    add_value(all, "bulk_last", bulk_last());
    add_value(all, "append", append(42));
    add_value(all, "record_open", record(RecordKind::open));
    add_value(all, "record_changes", record(RecordKind::changes));
    add_value(all, "record_fence", record(RecordKind::fence));
    add_value(all, "record_bulk", record(RecordKind::bulk));
}

void add_frames(std::vector<Vector> &all) {
    auto client = [&](const char *name, const ClientFrame &frame) {
        all.push_back({name, encode_frame(frame).substr(4), recode_frame<decode_client_frame>});
    };
    client("client_hello", Hello{1, "imap", 4242});
    client("client_clear", Clear{6, "u0001@example.com", inbox, mark});
    client("client_change", ChangeFrame{7, "u0001@example.com", change()});
    client("client_done", Done{7, true});
    auto agent = [&](const char *name, const AgentFrame &frame) {
        all.push_back({name, encode_frame(frame).substr(4), recode_frame<decode_agent_frame>});
    };
    agent("agent_answer", Answer{6, Reason::not_source, "store2 is"});
    agent("agent_ack", Ack{7, {3, 1207}});
    agent("agent_refused", Refused{7, Reason::busy, "a newer change waits"});
}

void add_worker(std::vector<Vector> &all) {
    auto request = [&](const char *name, const WorkerRequest &frame) {
        all.push_back({name, encode_frame(frame).substr(4), recode_frame<decode_worker_request>});
    };
    const std::string account = "u0001@example.com";
    request("worker_hello", WorkerHello{1, 1, true});
    request("worker_set_role", SetRole{2, account, Role::removed, 3});
    request("worker_inspect", Inspect{3, account});
    request("worker_probe", Probe{4, account, "probe-1", "content"});
    request("worker_apply", Apply{5, account, {{{3, 1207}, change()}, {{3, 1208}, list_change()}}});
    request("worker_snapshot_list", SnapshotList{6, account, "Shared/"});
    request("worker_snapshot_mailbox", SnapshotMailbox{7, account, inbox, id<SnapshotId>(0x60)});
    request("worker_collect", Collect{8, account, encode(bulk_first())});
    request("worker_build", Build{9, account, inbox, id<SnapshotId>(0x60), {3, 1208}});
    request("worker_flush", Flush{10, {"/var/mail/u0001/mail", "/var/mail/u0002/mail"}});
    request("worker_notify", Notify{11, "admin@example.com", "complete", "The replica is complete."});
    request("worker_kick", Kick{12, account});
    auto answer = [&](const char *name, const WorkerReply &frame) {
        all.push_back({name, encode_frame(frame).substr(4), recode_frame<decode_worker_reply>});
    };
    answer("worker_reply", reply());
    answer("worker_bulk_out", BulkOut{7, encode(bulk_last())});
}

void add_control(std::vector<Vector> &all) {
    AccountRecord account{
        "u0001@example.com",         4, 3, "store1.example.com", AccountState::promoting, {epoch_place},
        {{"store2.example.com", 10}}};
    add_value<ControlValue>(all, "control_account_record", account);
    add_value<ControlValue>(all, "control_heartbeat", heartbeat());
    add_value<ControlValue>(all, "control_destination_state", destination_state());
    add_value<ControlValue>(all, "control_operation", operation());
    add_value<ControlValue>(all, "control_check_answer", check_answer());
}

} // namespace

std::string key_file() {
    std::ifstream file(GOLDEN_DIR "/key-file.txt");
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}
KeyRing ring() {
    auto ring = KeyRing::parse(key_file());
    if (!ring) std::abort();
    return *ring;
}
EnvelopeHeader envelope_header() { return {2, ring().account_key("u0001@example.com"), {3, 1207}, id<Session>(0x80)}; }

const std::vector<Vector> &vectors() {
    static const std::vector<Vector> all = [] {
        std::vector<Vector> made;
        add_changes(made);
        add_frames(made);
        add_worker(made);
        add_control(made);
        made.push_back({"envelope", *seal_with_nonce(ring(), envelope_header(), nonce, plaintext), recode_envelope});
        return made;
    }();
    return all;
}

} // namespace replica::golden
