package fedagg.bridge.kernels;

import java.util.Random;

/** The obvious way to compute what the kernels compute, in double; and random inputs for both. */
final class Reference {
  private Reference() {}

  static float[] random(Random random, int count, double spread) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) (spread * random.nextGaussian());
    }
    return values;
  }

  static double[] logSoftmax(float[] z, int row, int classes, double temperature) {
    double top = Double.NEGATIVE_INFINITY;
    for (int c = 0; c < classes; c++) {
      top = Math.max(top, z[row * classes + c] / temperature);
    }
    double sum = 0;
    for (int c = 0; c < classes; c++) {
      sum += Math.exp(z[row * classes + c] / temperature - top);
    }
    double[] out = new double[classes];
    for (int c = 0; c < classes; c++) {
      out[c] = z[row * classes + c] / temperature - top - Math.log(sum);
    }
    return out;
  }

  /** The loss, its two terms, and then the gradient, row by row. */
  static double[] distill(
      float[] z, float[] t, long[] labels, double[] weight, int classes, double ceWeight, double klWeight, double ts,
      double tt, boolean reverse) {
    int rows = weight.length;
    double total = 0;
    for (double w : weight) {
      total += w;
    }
    double[] out = new double[3 + rows * classes];
    for (int n = 0; n < rows; n++) {
      if (weight[n] == 0) {
        continue;
      }
      double share = weight[n] / total;
      if (labels != null) {
        double[] log = logSoftmax(z, n, classes, 1);
        out[1] -= share * log[(int) labels[n]];
        for (int c = 0; c < classes; c++) {
          out[3 + n * classes + c] += ceWeight * share * (Math.exp(log[c]) - (c == labels[n] ? 1 : 0));
        }
      }
      if (t != null) {
        double[] student = logSoftmax(z, n, classes, ts);
        double[] teacher = logSoftmax(t, n, classes, tt);
        double kl = 0;
        for (int c = 0; c < classes; c++) {
          double p = Math.exp(teacher[c]);
          double q = Math.exp(student[c]);
          kl += reverse ? q * (student[c] - teacher[c]) : p * (teacher[c] - student[c]);
        }
        out[2] += share * kl;
        for (int c = 0; c < classes; c++) {
          double q = Math.exp(student[c]);
          double slope = reverse ? q * (student[c] - teacher[c] - kl) : q - Math.exp(teacher[c]);
          out[3 + n * classes + c] += klWeight * share * slope / ts;
        }
      }
    }
    out[0] = ceWeight * out[1] + klWeight * out[2];
    return out;
  }
}
