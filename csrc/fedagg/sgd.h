// Stochastic gradient descent with momentum over one flat buffer, checked.
#pragma once

#include <cstddef>

#include "fedagg/kernels.h"

namespace fedagg {

//     g = gradient + weight_decay * parameters;  velocity = momentum * velocity + g
//     parameters -= learning_rate * (nesterov ? g + momentum * velocity : velocity)
// A velocity of zeros starts it; without momentum it is not read. Throws ArgumentError for a number that is not usable,
// or for a velocity that momentum needs and that is missing.
void sgd_step(float* parameters, const float* gradient, float* velocity, std::size_t count, const SgdStep& step);

}  // namespace fedagg
