// The one exception of the core. Apart from types.h because kernel files include no standard library class: a weak copy
// of its inline functions, compiled for a wide instruction set, could be the one the linker keeps.
#pragma once

#include <stdexcept>

namespace fedagg {

// Thrown by the checked calls (distill.h, aggregate.h, codec.h) before any kernel runs.
class ArgumentError : public std::invalid_argument {
public:
    using std::invalid_argument::invalid_argument;
};

}  // namespace fedagg
