// fedagg_repeat ISA ROWS CLASSES TIMES: loss and gradient of one batch, so many times. The difference of two runs'
// instruction counts is free of everything but the kernel.
#include <cstdio>
#include <cstdlib>

#include "fedagg/cpu.h"
#include "fedagg/distill.h"

int main(int argc, char** argv) {
    if (argc != 5) {
        std::fputs("usage: fedagg_repeat ISA ROWS CLASSES TIMES\n", stderr);
        return 2;
    }
    fedagg::set_active_isa(argv[1]);
    const auto number = [&](int i) { return static_cast<std::size_t>(std::strtoul(argv[i], nullptr, 10)); };
    const std::size_t rows = number(2), classes = number(3);
    std::vector<float> student(rows * classes), teacher(rows * classes), gradient(rows * classes);
    std::vector<std::int64_t> labels(rows);
    for (std::size_t i = 0; i < student.size(); ++i) {
        student[i] = static_cast<float>(i * 37 % 101) / 20;
        teacher[i] = static_cast<float>(i * 53 % 103) / 20;
    }
    for (std::size_t n = 0; n < rows; ++n) labels[n] = static_cast<std::int64_t>(n % classes);
    fedagg::DistillInput<float> input;
    input.student = student.data();
    input.teacher = {teacher.data(), fedagg::LogitType::f32, nullptr};
    input.labels = labels.data();
    input.rows = rows;
    input.classes = classes;
    fedagg::DistillOptions options;
    options.kl_weight = 9;
    double loss = 0;
    for (std::size_t i = 0; i < number(4); ++i) loss = fedagg::distill_loss(input, options, gradient.data()).loss;
    std::printf("%.9g\n", loss);
    return 0;
}
