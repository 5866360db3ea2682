package fedagg.bridge.http;

import fedagg.bridge.wire.Request;
import fedagg.bridge.wire.Response;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.InterruptedIOException;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.URL;
import java.net.URLConnection;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.SSLSocketFactory;

/**
 * Requests over HttpURLConnection, which keeps connections alive by itself. No redirects, no compression, no cache: what to
 * do after a failure is the protocol's decision. One request at a time; another thread may {@link #interrupt} it.
 */
public final class HttpsTransport {
  /** The request was ended by {@link #interrupt}: that says nothing about the parent. */
  public static final class EndedException extends IOException {
    private static final long serialVersionUID = 1L;

    EndedException(Throwable cause) {
      super("the request was ended here", cause);
    }
  }

  private static final String MEDIA = "application/x-fedagg";
  private static final List<String> MEDIA_OF_ANSWERS =
      Arrays.asList("", MEDIA, "application/octet-stream", "application/json");
  private static final int NO_CONTENT = 204;
  private static final double LONGEST_RETRY = 86_400;

  private final SSLSocketFactory sockets;
  private final int connectMs;
  private final int readMs;
  private final int most;
  private final Object lock = new Object(); // of the two below
  private HttpURLConnection open;
  private boolean interrupted; // the request under way, or the next one if there is none

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
    return send(base, request, most);
  }

  /** As {@link #send(String, Request)}, with as many bytes of an answer as {@code most} says. */
  public Response send(String base, Request request, int most) throws IOException {
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
    boolean whole = false;
    try {
      begin(connection);
      if (request.body.length > 0) {
        connection.setRequestProperty("Content-Type", MEDIA);
        connection.setDoOutput(true);
      }
      connection.connect();
      endIfInterrupted(); // disconnect() does nothing to a connection that is still being made
      if (request.body.length > 0) {
        // not streamed: a status 401 would become an exception that hides its body
        try (OutputStream out = connection.getOutputStream()) {
          out.write(request.body);
        }
      }
      Response answer = read(connection, most);
      whole = true;
      return answer;
    } catch (IOException | RuntimeException error) { // the latter some platforms let out of one that was disconnected
      if (isInterrupted()) {
        throw new EndedException(error);
      }
      throw error instanceof IOException ? (IOException) error : new IOException("the connection broke: " + error, error);
    } finally {
      end();
      if (!whole) {
        quietly(connection); // what is left in it belongs to no other request
      }
    }
  }

  private void begin(HttpURLConnection connection) throws IOException {
    synchronized (lock) {
      open = connection;
    }
    endIfInterrupted();
  }

  private void endIfInterrupted() throws IOException {
    if (isInterrupted()) {
      throw new InterruptedIOException("the request was ended before it was sent");
    }
  }

  private boolean isInterrupted() {
    synchronized (lock) {
      return interrupted;
    }
  }

  /** Nothing comes out of it: in a thread of its own it would end an Android application. */
  static void quietly(HttpURLConnection connection) {
    try {
      connection.disconnect();
    } catch (RuntimeException error) {
      // some platforms' connections stumble over one that another thread is in; it is broken all the same
    }
  }

  private void end() {
    synchronized (lock) {
      open = null;
      interrupted = false;
    }
  }

  /** Those that a parent answers with, or none; what a proxy or a captive portal puts in its place names another. */
  private static void checkMedia(int status, String media) throws IOException {
    String kind = media == null ? "" : media.split(";", 2)[0].trim().toLowerCase(Locale.ROOT);
    if (!MEDIA_OF_ANSWERS.contains(kind)) {
      throw new IOException(
          "got status " + status + " with " + (kind.length() > 60 ? kind.substring(0, 60) : kind) + ", expected " + MEDIA
              + ": no parent's answer, but that of a proxy or a captive portal in between; log in to that network, or "
              + "correct the address");
    }
  }

  private static Response read(HttpsURLConnection connection, int most) throws IOException {
    int status = connection.getResponseCode();
    if (status < 0) {
      throw new IOException("got something that is not HTTP");
    }
    checkMedia(status, connection.getContentType());
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

  /** Ends the request under way, or else the next one; it counts as one without an answer. From any thread. */
  public void interrupt() {
    HttpURLConnection current;
    synchronized (lock) {
      interrupted = true;
      current = open;
    }
    if (current != null) { // Android refuses TLS's last words in an application's main thread
      Thread cutter = new Thread(() -> quietly(current), "fedagg-interrupt");
      cutter.setDaemon(true);
      cutter.start();
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
