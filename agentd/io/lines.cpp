#include "agentd/io/lines.hpp"

namespace replica {

namespace {
constexpr std::string_view plain("\0\1\t\r\n", 5), escaped_as = "01trn";
}

std::string tab_escaped(std::string_view field) {
    std::string out;
    for (char c : field) {
        auto at = plain.find(c);
        if (at == plain.npos)
            out += c;
        else
            (out += '\1') += escaped_as[at];
    }
    return out;
}

std::vector<std::string> tab_fields(std::string_view line) {
    std::vector<std::string> fields(1);
    for (size_t i = 0; i < line.size(); i++) {
        if (line[i] == '\t') {
            fields.emplace_back();
        } else if (line[i] == '\1' && i + 1 < line.size()) {
            auto at = escaped_as.find(line[++i]);
            fields.back() += at == escaped_as.npos ? line[i] : plain[at];
        } else {
            fields.back() += line[i];
        }
    }
    return fields;
}

std::string tab_line(const std::vector<std::string> &fields) {
    std::string line;
    for (auto &field : fields)
        line += tab_escaped(field) + '\t';
    if (!line.empty()) line.pop_back();
    return line + '\n';
}

bool LineSplitter::feed(std::string_view bytes, const std::function<bool(std::string_view)> &line) {
    buffer_.append(bytes);
    size_t begin = 0;
    for (size_t end; (end = buffer_.find('\n', begin)) != buffer_.npos; begin = end + 1)
        if (!line(std::string_view(buffer_).substr(begin, end - begin))) return false;
    buffer_.erase(0, begin);
    return buffer_.size() <= limit_;
}

} // namespace replica
