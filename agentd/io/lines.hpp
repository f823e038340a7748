// Dovecot's line protocols: fields between TABs, escaped, and lines taken out of a stream. Pure.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace replica {

std::string tab_escaped(std::string_view field);
std::vector<std::string> tab_fields(std::string_view line);   // unescaped
std::string tab_line(const std::vector<std::string> &fields); // escaped, with LF

class LineSplitter {
public:
    explicit LineSplitter(size_t line_bytes_max) : limit_(line_bytes_max) {}
    // Calls `line` for each whole line; false once a line is longer than the limit, or when `line` says so.
    bool feed(std::string_view bytes, const std::function<bool(std::string_view)> &line);

private:
    size_t limit_;
    std::string buffer_;
};

} // namespace replica
