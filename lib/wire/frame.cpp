#include "lib/wire/frame.hpp"
#include "lib/wire/framing.hpp"

namespace replica {

constexpr uint8_t first_client_type = 1, first_agent_type = 33;

constexpr auto fields(Is<Hello> auto &h) { return std::tie(h.version, h.service, h.pid); }
constexpr auto fields(Is<Clear> auto &c) { return std::tie(c.request, c.account, c.object, c.mark); }
constexpr auto fields(Is<ChangeFrame> auto &c) { return std::tie(c.request, c.account, c.change); }
constexpr auto fields(Is<Done> auto &d) { return std::tie(d.request, d.ok); }
constexpr auto fields(Is<Answer> auto &a) { return std::tie(a.request, a.reason, a.text); }
constexpr auto fields(Is<Ack> auto &a) { return std::tie(a.request, a.number); }
constexpr auto fields(Is<Refused> auto &r) { return std::tie(r.request, r.reason, r.text); }

constexpr bool legal(Reason reason) { return reason <= Reason::protocol; }
static bool legal(const Clear &c) { return no_nul(c.account); }
static bool legal(const ChangeFrame &c) { return no_nul(c.account); }
static bool legal(const Refused &r) { return r.reason != Reason::none; }

std::string encode_frame(const ClientFrame &frame) { return framed(frame, first_client_type); }
std::string encode_frame(const AgentFrame &frame) { return framed(frame, first_agent_type); }
Result<ClientFrame> decode_client_frame(std::string_view bytes) {
    return decode_alternative<ClientFrame>(bytes, first_client_type, "a frame of a mail process");
}
Result<AgentFrame> decode_agent_frame(std::string_view bytes) {
    return decode_alternative<AgentFrame>(bytes, first_agent_type, "a frame of the agent");
}

Result<std::optional<std::string>> FrameSplitter::next() {
    Reader in(std::string_view(buffer_).substr(begin_));
    size_t available = buffer_.size() - begin_;
    uint32_t length = in.u32();
    if (in.ok() && (length == 0 || length > frame_bytes_max))
        return Error{Code::corrupt, "a frame of " + std::to_string(length) + " bytes; 1 to " +
                                        std::to_string(frame_bytes_max) + " are allowed"};
    std::string_view frame = in.raw(length);
    if (!in.ok()) {
        buffer_.erase(0, std::exchange(begin_, 0));
        return std::optional<std::string>();
    }
    begin_ += available - in.rest().size();
    return std::optional<std::string>(frame);
}

} // namespace replica
