#include "lib/wire/worker.hpp"
#include "lib/wire/framing.hpp"

namespace replica {

constexpr uint8_t first_request_type = 65, first_reply_type = 97;

constexpr auto fields(Is<WorkerHello> auto &h) { return std::tie(h.id, h.version, h.originate); }
constexpr auto fields(Is<SetRole> auto &s) { return std::tie(s.id, s.account, s.role, s.epoch); }
constexpr auto fields(Is<Inspect> auto &i) { return std::tie(i.id, i.account); }
constexpr auto fields(Is<Probe> auto &p) { return std::tie(p.id, p.account, p.name, p.content); }
constexpr auto fields(Is<NumberedChange> auto &c) { return std::tie(c.number, c.change); }
constexpr auto fields(Is<Apply> auto &a) { return std::tie(a.id, a.account, a.changes); }
constexpr auto fields(Is<SnapshotList> auto &s) { return std::tie(s.id, s.account, s.ns_prefix); }
constexpr auto fields(Is<SnapshotMailbox> auto &s) { return std::tie(s.id, s.account, s.object, s.snapshot); }
constexpr auto fields(Is<Collect> auto &c) { return std::tie(c.id, c.account, c.bulk); }
constexpr auto fields(Is<Build> auto &b) { return std::tie(b.id, b.account, b.object, b.snapshot, b.number); }
constexpr auto fields(Is<Flush> auto &f) { return std::tie(f.id, f.mail_roots); }
constexpr auto fields(Is<Notify> auto &n) { return std::tie(n.id, n.to, n.subject, n.text); }
constexpr auto fields(Is<Kick> auto &k) { return std::tie(k.id, k.account); }
constexpr auto fields(Is<ObjectState> auto &s) { return std::tie(s.object, s.name, s.mark, s.mails, s.uid_validity); }
constexpr auto fields(Is<AccountFacts> auto &f) {
    return std::tie(f.exists, f.user, f.uid, f.gid, f.home, f.mail_root, f.blob_root, f.device, f.settings, f.unfit,
                    f.not_covered, f.objects);
}
constexpr auto fields(Is<Reply> auto &r) {
    return std::tie(r.id, r.verdict, r.text, r.changes, r.facts, r.content, r.number);
}
constexpr auto fields(Is<BulkOut> auto &b) { return std::tie(b.id, b.bulk); }

constexpr bool legal(Role role) { return role <= Role::removed; }
constexpr bool legal(Verdict verdict) { return verdict <= Verdict::list_wanted; }

std::string_view to_string(Role role) {
    switch (role) {
    case Role::none:
        return "none";
    case Role::source:
        return "source";
    case Role::destination:
        return "destination";
    case Role::removed:
        return "removed";
    }
    return "unknown";
}

std::string encode_frame(const WorkerRequest &frame) { return framed(frame, first_request_type); }
std::string encode_frame(const WorkerReply &frame) { return framed(frame, first_reply_type); }
Result<WorkerRequest> decode_worker_request(std::string_view bytes) {
    return decode_alternative<WorkerRequest>(bytes, first_request_type, "a worker's request");
}
Result<WorkerReply> decode_worker_reply(std::string_view bytes) {
    return decode_alternative<WorkerReply>(bytes, first_reply_type, "a worker's reply");
}

} // namespace replica
