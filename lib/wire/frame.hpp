// Frames of the agent's socket `replica`, between mail processes (client) and agentd. Format:
// docs/formats/agent-socket.md. On the wire: u32 length of what follows, u8 type, body. A frame is at most
// frame_bytes_max; larger is a protocol error.
#pragma once
#include "lib/wire/record.hpp"
#include <variant>

namespace replica {

inline constexpr uint32_t frame_bytes_max = 16u << 20;
inline constexpr uint32_t agent_protocol_version = 1;

// --- client to agent ---
struct Hello {
    uint32_t version = agent_protocol_version;
    std::string service; // "imap", "lmtp", ...
    uint32_t pid = 0;
};
// Before any lock: may a change of this object come? Answered by Answer. A list object or a mailbox with its mark as
// read without a lock; mark none and unlogged tell the agent that a SNAPSHOT is needed first.
struct Clear {
    uint64_t request = 0;
    std::string account;
    Object object;
    Mark mark;
};
// Under the object's lock: the change, final. Answered by Ack or Refused. change.previous is the offered mark.
struct ChangeFrame {
    uint64_t request = 0;
    std::string account;
    Change change;
};
// After the local commit. No answer. ok = false: the commit failed after the ACK; the agent rolls forward.
struct Done {
    uint64_t request = 0;
    bool ok = true;
};

// --- agent to client ---
enum class Reason : uint8_t {
    none = 0,
    unavailable = 1, // brokers away or too slow: refused for certain, or in doubt after a timeout
    not_source = 2,  // this store is not the account's source
    behind = 3,      // the offered mark is not the last number assigned: it is rolled forward, try again
    deleted = 4,     // the mailbox was deleted
    too_large = 5,   // beyond replica_record_bytes_max
    stopped = 6,     // the account is in a named state that an administrator must look at
    busy = 7,        // a newer change of the object proves that this one's lock is gone
    protocol = 8,
};
struct Answer { // to Clear; reason none = clear
    uint64_t request = 0;
    Reason reason = Reason::none;
    std::string text;
};
struct Ack {
    uint64_t request = 0;
    Number number;
};
struct Refused {
    uint64_t request = 0;
    Reason reason = Reason::unavailable;
    std::string text; // one sentence for the log
};

using ClientFrame = std::variant<Hello, Clear, ChangeFrame, Done>;
using AgentFrame = std::variant<Answer, Ack, Refused>;
std::string encode_frame(const ClientFrame &); // with length and type
std::string encode_frame(const AgentFrame &);
Result<ClientFrame> decode_client_frame(std::string_view type_and_body);
Result<AgentFrame> decode_agent_frame(std::string_view type_and_body);

// Takes whole frames out of a stream. Fails (corrupt) on a length of 0 or above the limit; then the connection is to be
// closed.
class FrameSplitter {
public:
    void feed(std::string_view bytes) { buffer_.append(bytes); }
    Result<std::optional<std::string>> next(); // type and body of the next whole frame, or none yet

private:
    std::string buffer_;
    size_t begin_ = 0;
};

} // namespace replica
