// Lines `name = value`, as settings: all in range, or refused by name.
#include "lib/settings/settings.hpp"
#include <cstdlib>

using namespace replica;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    std::string_view text(reinterpret_cast<const char *>(data), size);
    std::map<std::string, std::string> raw;
    while (!text.empty()) {
        std::string_view line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        size_t equals = line.find(" = ");
        if (equals != line.npos) raw[std::string(line.substr(0, equals))] = line.substr(equals + 3);
    }
    auto settings = parse_settings(raw, "store1.example.com");
    if (!settings && settings.error().code != Code::invalid) std::abort();
    if (settings && (settings->min_insync > settings->replication_factor || settings->apply_workers == 0)) std::abort();
    return 0;
}
