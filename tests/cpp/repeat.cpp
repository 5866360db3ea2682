// fedagg_repeat KERNEL ISA ROWS CLASSES TIMES: one kernel on one batch, so many times. The difference of two runs'
// instruction counts is free of everything but the kernel. KERNEL: loss (and gradient), softmax-mean (of four teachers),
// int8 (there and back), sgd (with momentum, over as many weights as the batch has logits).
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "fedagg/aggregate.h"
#include "fedagg/codec.h"
#include "fedagg/cpu.h"
#include "fedagg/distill.h"
#include "fedagg/sgd.h"

namespace {

std::vector<float> logits(std::size_t count, std::size_t step, std::size_t period) {
    std::vector<float> x(count);
    for (std::size_t i = 0; i < count; ++i) x[i] = static_cast<float>(i * step % period) / 20;
    return x;
}

float loss(std::size_t rows, std::size_t classes, std::size_t times) {
    const auto student = logits(rows * classes, 37, 101), teacher = logits(rows * classes, 53, 103);
    std::vector<float> gradient(rows * classes);
    std::vector<std::int64_t> labels(rows);
    for (std::size_t n = 0; n < rows; ++n) labels[n] = static_cast<std::int64_t>(n % classes);
    fedagg::DistillInput<float> input;
    input.student = student.data();
    input.teacher = {teacher.data(), fedagg::LogitType::f32, nullptr};
    input.labels = labels.data();
    input.rows = rows;
    input.classes = classes;
    fedagg::DistillOptions options;
    options.kl_weight = 9;
    double found = 0;
    for (std::size_t i = 0; i < times; ++i) found = fedagg::distill_loss(input, options, gradient.data()).loss;
    return static_cast<float>(found);
}

float softmax_mean(std::size_t rows, std::size_t classes, std::size_t times) {
    std::vector<std::vector<float>> each;
    for (const std::size_t step : {37U, 53U, 59U, 61U}) each.push_back(logits(rows * classes, step, 103));
    std::vector<fedagg::Logits> teachers;
    for (const auto& x : each) teachers.push_back({x.data(), fedagg::LogitType::f32, nullptr});
    fedagg::AggregateInput input;
    input.teachers = teachers.data();
    input.teacher_count = teachers.size();
    input.rows = rows;
    input.classes = classes;
    std::vector<float> out(rows * classes);
    for (std::size_t i = 0; i < times; ++i) {
        fedagg::aggregate_logits(input, fedagg::Aggregation::mean_probabilities, 0, 1, out.data());
    }
    return out.back();
}

float int8(std::size_t rows, std::size_t classes, std::size_t times) {
    auto x = logits(rows * classes, 37, 101);
    std::vector<std::int8_t> bytes(rows * classes);
    std::vector<float> scale(rows);
    for (std::size_t i = 0; i < times; ++i) {
        fedagg::quantise_logits(x.data(), rows, classes, bytes.data(), scale.data());
        fedagg::dequantise_logits(bytes.data(), scale.data(), rows, classes, x.data());
    }
    return x.back();
}

float sgd(std::size_t rows, std::size_t classes, std::size_t times) {
    auto weights = logits(rows * classes, 37, 101);
    const auto gradient = logits(rows * classes, 53, 103);
    std::vector<float> velocity(rows * classes);
    fedagg::SgdStep step;
    step.learning_rate = 0.1F;
    step.momentum = 0.9F;
    step.weight_decay = 1e-3F;
    for (std::size_t i = 0; i < times; ++i) {
        fedagg::sgd_step(weights.data(), gradient.data(), velocity.data(), weights.size(), step);
    }
    return weights.back();
}

}  // namespace

int main(int argc, char** argv) {
    const std::map<std::string, std::function<float(std::size_t, std::size_t, std::size_t)>> kernels = {
        {"loss", loss}, {"softmax-mean", softmax_mean}, {"int8", int8}, {"sgd", sgd}};
    const auto kernel = argc == 6 ? kernels.find(argv[1]) : kernels.end();
    if (kernel == kernels.end()) {
        std::fputs("usage: fedagg_repeat loss|softmax-mean|int8|sgd ISA ROWS CLASSES TIMES\n", stderr);
        return 2;
    }
    fedagg::set_active_isa(argv[2]);
    const auto number = [&](int i) { return static_cast<std::size_t>(std::strtoul(argv[i], nullptr, 10)); };
    std::printf("%.9g\n", static_cast<double>(kernel->second(number(3), number(4), number(5))));
    return 0;
}
