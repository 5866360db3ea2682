package fedagg.bridge.kernels;

/** The loss of one batch and its two terms before their weights, means over the rows that count; 0 without any. */
public final class DistillLoss {
  public final double loss;
  public final double crossEntropy;
  public final double divergence;

  DistillLoss(double loss, double crossEntropy, double divergence) {
    this.loss = loss;
    this.crossEntropy = crossEntropy;
    this.divergence = divergence;
  }
}
