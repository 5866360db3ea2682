package fedagg.bridge.identity;

import java.security.GeneralSecurityException;
import java.security.cert.CertPath;
import java.security.cert.CertPathValidator;
import java.security.cert.CertificateException;
import java.security.cert.CertificateFactory;
import java.security.cert.PKIXParameters;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Date;
import java.util.List;
import javax.net.ssl.X509TrustManager;

/**
 * Trusts one federation's root, and servers of it that are an edge or the cloud. Host names are the TLS library's to check,
 * as for any X509TrustManager.
 *
 * <p>A certificate that is not valid yet, by a root that is trusted, says that this machine's clock is behind: then dates
 * are not held against the server, all the rest is.
 */
final class Trust implements X509TrustManager {
  private static final String SERVER_USE = "1.3.6.1.5.5.7.3.1";

  private final X509Certificate root;

  Trust(X509Certificate root) {
    this.root = root;
  }

  X509Certificate root() {
    return root;
  }

  /** The facts of a chain, leaf first, with or without the root at its end. Whatever the date, if {@code anyDate}. */
  Facts check(List<X509Certificate> chain, boolean anyDate) throws IdentityException {
    List<X509Certificate> path = new ArrayList<>(chain);
    if (!path.isEmpty() && path.get(path.size() - 1).equals(root)) {
      path.remove(path.size() - 1);
    }
    if (path.isEmpty() || path.size() > 2) {
      throw new IdentityException("certificate chain: got " + path.size() + " below the root, expected 1 or 2");
    }
    Date latest = root.getNotBefore();
    for (X509Certificate each : path) {
      latest = each.getNotBefore().after(latest) ? each.getNotBefore() : latest;
    }
    Date now = new Date();
    try {
      CertPath found = CertificateFactory.getInstance("X.509").generateCertPath(path);
      PKIXParameters rules = new PKIXParameters(Collections.singleton(new TrustAnchor(root, null)));
      rules.setRevocationEnabled(false); // servers refuse who is revoked; a list comes to edges only
      rules.setDate(anyDate || now.before(latest) ? latest : now);
      CertPathValidator.getInstance("PKIX").validate(found, rules);
    } catch (GeneralSecurityException error) {
      throw new IdentityException("certificate chain: not of this federation, or expired: " + error.getMessage(), error);
    }
    if (path.get(0).getBasicConstraints() >= 0) {
      throw new IdentityException("certificate chain: its first certificate is a signing one, expected a node's");
    }
    return Facts.of(path.get(0));
  }

  @Override
  public void checkServerTrusted(X509Certificate[] chain, String kind) throws CertificateException {
    try {
      Facts server = check(Arrays.asList(chain), false);
      List<String> uses = chain[0].getExtendedKeyUsage();
      if (server.role.equals("device") || (uses != null && !uses.contains(SERVER_USE))) {
        throw new IdentityException("server: got the certificate of " + server.role + " " + server.node + ", expected a parent's");
      }
    } catch (IdentityException error) {
      throw new CertificateException(error.getMessage(), error);
    }
  }

  @Override
  public void checkClientTrusted(X509Certificate[] chain, String kind) throws CertificateException {
    throw new CertificateException("a device has no clients");
  }

  @Override
  public X509Certificate[] getAcceptedIssuers() {
    return new X509Certificate[] {root};
  }
}
