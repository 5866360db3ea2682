package fedagg.bridge.http;

import fedagg.bridge.wire.Request;
import fedagg.bridge.wire.Response;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.URL;
import java.net.URLConnection;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.SSLSocketFactory;

/**
 * Requests over HttpURLConnection, which keeps connections alive by itself. No redirects, no compression, no cache: what to
 * do after a failure is the protocol's decision. One request at a time; another thread may {@link #interrupt} it.
 */
public final class HttpsTransport {
  private static final String MEDIA = "application/x-fedagg";
  private static final int NO_CONTENT = 204;
  private static final double LONGEST_RETRY = 86_400;

  private final SSLSocketFactory sockets;
  private final int connectMs;
  private final int readMs;
  private final int most;
  private volatile HttpURLConnection open;

  /**
   * @param readMs must be longer than the longest poll
   * @param most bytes of an answer
   */
  public HttpsTransport(SSLSocketFactory sockets, int connectMs, int readMs, int most) {
    this.sockets = sockets;
    this.connectMs = connectMs;
    this.readMs = readMs;
    this.most = most;
  }

  /** One exchange with the server at {@code base}, https://host:port. Throws IOException if no whole answer came. */
  public Response send(String base, Request request) throws IOException {
    URLConnection opened = new URL(base + request.path).openConnection();
    if (!(opened instanceof HttpsURLConnection)) {
      throw new IOException(base + ": expected https://host:port");
    }
    HttpsURLConnection connection = (HttpsURLConnection) opened;
    connection.setSSLSocketFactory(sockets);
    connection.setConnectTimeout(connectMs);
    connection.setReadTimeout(readMs);
    connection.setInstanceFollowRedirects(false);
    connection.setUseCaches(false);
    connection.setRequestMethod(request.method);
    connection.setRequestProperty("Accept", MEDIA);
    connection.setRequestProperty("Accept-Encoding", "identity"); // Android would ask for gzip
    connection.setRequestProperty("User-Agent", "fedagg-bridge");
    open = connection;
    boolean whole = false;
    try {
      if (request.body.length > 0) {
        connection.setRequestProperty("Content-Type", MEDIA);
        connection.setDoOutput(true);
        // not streamed: a status 401 would become an exception that hides its body
        try (OutputStream out = connection.getOutputStream()) {
          out.write(request.body);
        }
      }
      Response answer = read(connection);
      whole = true;
      return answer;
    } catch (RuntimeException error) { // some platforms let these out of a connection that was disconnected
      throw new IOException("the connection broke: " + error, error);
    } finally {
      open = null;
      if (!whole) {
        connection.disconnect(); // what is left in it belongs to no other request
      }
    }
  }

  private Response read(HttpsURLConnection connection) throws IOException {
    int status = connection.getResponseCode();
    if (status < 0) {
      throw new IOException("got something that is not HTTP");
    }
    double retryAfter = seconds(connection.getHeaderField("Retry-After"));
    if (status == NO_CONTENT) {
      return new Response(status, new byte[0], retryAfter);
    }
    int size = connection.getContentLength();
    if (size < 0 || size > most) {
      throw new IOException("got an answer of " + size + " bytes, expected 0 to " + most);
    }
    InputStream in = status >= 400 ? connection.getErrorStream() : connection.getInputStream();
    byte[] body = new byte[size];
    if (in != null) {
      try {
        int at = 0;
        while (at < size) {
          int got = in.read(body, at, size - at);
          if (got < 0) {
            throw new EOFException("got " + at + " bytes of an answer of " + size);
          }
          at += got;
        }
      } finally {
        in.close();
      }
    } else if (size > 0) {
      throw new EOFException("got no body, expected " + size + " bytes");
    }
    return new Response(status, body, retryAfter);
  }

  /** Ends the request under way, if there is one; it counts as one without an answer. From any thread. */
  public void interrupt() {
    HttpURLConnection current = open;
    if (current != null) {
      current.disconnect();
    }
  }

  private static double seconds(String text) {
    if (text == null) {
      return -1;
    }
    try {
      double seconds = Double.parseDouble(text);
      return seconds >= 0 && seconds < LONGEST_RETRY ? seconds : -1;
    } catch (NumberFormatException error) {
      return -1; // a date, which nobody here sends
    }
  }
}
