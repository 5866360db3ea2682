package fedagg.bridge.wire;

/** An answer as data. */
public final class Response {
  public final int status;
  public final byte[] body;
  /** Seconds of the header Retry-After, below 0 for none. */
  public final double retryAfter;

  public Response(int status, byte[] body, double retryAfter) {
    this.status = status;
    this.body = body;
    this.retryAfter = retryAfter;
  }
}
