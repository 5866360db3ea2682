package fedagg.bridge.wire;

/** A request as data; what moves it is the transport's affair. */
public final class Request {
  public final String method;
  /** Begins at the root and has neither host nor query. */
  public final String path;
  /** Empty for none. */
  public final byte[] body;

  public Request(String method, String path, byte[] body) {
    this.method = method;
    this.path = path;
    this.body = body;
  }
}
