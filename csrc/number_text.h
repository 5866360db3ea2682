// Numbers in messages, to six digits, where std::to_string makes 0.000000 of 1e-7.
#pragma once

#include <cstdio>
#include <string>

namespace fedagg {

inline std::string text(double value) {
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, "%.6g", value);
    return buffer;
}

}  // namespace fedagg
