package fedagg.bridge.identity;

import fedagg.bridge.http.HttpsTransport;
import fedagg.bridge.wire.ChildEnd;
import fedagg.bridge.wire.Digests;
import fedagg.bridge.wire.Messages;
import fedagg.bridge.wire.ProtocolException;
import fedagg.bridge.wire.Request;
import fedagg.bridge.wire.Response;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.nio.file.Path;
import java.security.cert.CertificateException;
import java.security.cert.X509Certificate;
import java.util.Arrays;
import java.util.List;
import javax.net.ssl.KeyManager;
import javax.net.ssl.SSLException;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.X509TrustManager;

/** Buying a certificate with a one-time token, and another one with the one before. */
public final class Enrolment {
  private static final int CONNECT_MS = 10_000;

  private Enrolment() {}

  /**
   * Enrols {@code node} at the parent at {@code url} and puts its identity into {@code folder}. A token whose answer was
   * lost gets it again with the same key, so after an IOException try again.
   *
   * @throws IOException where there was no answer, or the parent says later
   * @throws IdentityException where the parent refuses, or is not of the token's federation
   */
  public static Identity enrol(String url, Token token, String node, Path folder, NodeKey key)
      throws IOException, IdentityException {
    URI parent = URI.create(url);
    if (!"https".equals(parent.getScheme()) || parent.getHost() == null) { // a null host would be this machine
      throw new IdentityException("url: got " + url + ", expected the parent's address, https://host:port");
    }
    Trust trust = firstContact(parent.getHost(), parent.getPort() < 0 ? 443 : parent.getPort(), token);
    List<String> name = DistinguishedName.read(trust.root().getSubjectX500Principal().getEncoded());
    if (name.isEmpty() || !name.get(0).startsWith("O=")) {
      throw new IdentityException("authority: got a root without a federation's name");
    }
    double time = System.currentTimeMillis() / 1000.0;
    byte[] text =
        Proof.text("enrol", name.get(0).substring(2), node, "device", time, token.digest(), key.publicDer());
    Messages.Enrol asked =
        new Messages.Enrol(token.text(), node, "device", key.publicDer(), key.sign(text), time);
    HttpsTransport transport =
        new HttpsTransport(Identity.sockets(new KeyManager[0], trust), CONNECT_MS, 30_000, 1 << 18);
    byte[] certificate = ask(transport, url, "/v1/enrol", asked);
    return Identity.install(folder, key, trust, certificate, node);
  }

  /** Renews {@code identity} at the parent at {@code url}; also up to 30 days after it has expired. */
  public static Identity renew(String url, Identity identity) throws IOException, IdentityException {
    HttpsTransport transport = new HttpsTransport(identity.sockets(true), CONNECT_MS, 30_000, 1 << 18);
    Messages.Renew asked = identity.renewal(System.currentTimeMillis() / 1000.0);
    return identity.renewed(ask(transport, url, "/v1/renew", asked));
  }

  static byte[] ask(HttpsTransport transport, String url, String path, Messages.Message asked)
      throws IOException, IdentityException {
    Response answer = transport.send(url, new Request("POST", path, asked.encode()));
    if (answer.status >= 400) {
      Messages.Problem problem = ChildEnd.problem(answer);
      String text = url + path + ": " + problem.message + " (" + problem.code + ", status " + answer.status + ")";
      if (answer.status >= 500 || answer.status == 408 || answer.status == 429) {
        throw new IOException(text);
      }
      throw new IdentityException(text);
    }
    try {
      return Messages.Enrolled.decode(answer.body).certificate;
    } catch (ProtocolException error) {
      throw new IOException(url + path + ": " + error.getMessage(), error);
    }
  }

  /**
   * The root that the token names, found in the chain that the server shows. The handshake is always broken off once the
   * chain was seen: nothing is sent but a TLS hello, and nothing that the server says is believed. The connection that is
   * made with the root checks chain and host name.
   */
  private static Trust firstContact(String host, int port, Token token) throws IOException, IdentityException {
    Chain seen = new Chain();
    try (SSLSocket socket = (SSLSocket) Identity.sockets(new KeyManager[0], seen).createSocket()) {
      socket.connect(new InetSocketAddress(host, port), CONNECT_MS);
      socket.setSoTimeout(CONNECT_MS);
      socket.startHandshake();
      throw new IOException(host + ":" + port + ": got a connection without a certificate, expected TLS with one");
    } catch (SSLException error) {
      if (seen.chain.length == 0) {
        throw error; // it broke before the certificates came
      }
    }
    for (X509Certificate each : seen.chain) {
      if (Arrays.equals(Digests.of(Pem.der(each)), token.authority())) {
        return new Trust(each);
      }
    }
    throw new IdentityException(
        host + ":" + port + ": none of its " + seen.chain.length
            + " certificates is the authority that the token names; is this the right server?");
  }

  /** Looks at a chain and trusts nobody. */
  private static final class Chain implements X509TrustManager {
    X509Certificate[] chain = {};

    @Override
    public void checkServerTrusted(X509Certificate[] shown, String kind) throws CertificateException {
      chain = shown.clone();
      throw new CertificateException("seen; it is trusted on the next connection, if it is the token's");
    }

    @Override
    public void checkClientTrusted(X509Certificate[] shown, String kind) throws CertificateException {
      throw new CertificateException("a device has no clients");
    }

    @Override
    public X509Certificate[] getAcceptedIssuers() {
      return new X509Certificate[0];
    }
  }
}
