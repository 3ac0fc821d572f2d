// Copyright (c) certflow.kubernetes contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Command request_maker writes certificate requests as Go, kubelet and cert-manager make them, one file each, into the
// directory that its argument names. kubelet's and cert-manager's are made by their own code. The keys are thrown away.
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log"
	"net"
	"net/url"
	"os"
	"path/filepath"

	v1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/cert-manager/cert-manager/pkg/util/pki"
	"k8s.io/client-go/util/cert"
)

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func write(name string, text []byte) {
	if err := os.WriteFile(filepath.Join(os.Args[1], name+".pem"), text, 0o644); err != nil {
		log.Fatal(err)
	}
}

func writeDER(name string, der []byte) {
	write(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func main() {
	ecKey := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	plain(ecKey, rsaKey, edKey)
	kubelet(ecKey, rsaKey)
	certManager(ecKey, rsaKey)
}

func plain(keys ...crypto.Signer) {
	templates := map[string]x509.CertificateRequest{
		"go-client": {Subject: pkix.Name{CommonName: "jane", Organization: []string{"developers", "admins", "audit"}}},
		"go-names": {
			Subject:        pkix.Name{CommonName: "*.apps.svc", Country: []string{"DE"}, Locality: []string{"München"}},
			DNSNames:       []string{"hook.apps.svc", "hook.apps"},
			IPAddresses:    []net.IP{net.ParseIP("10.1.2.3"), net.ParseIP("fd00::1")},
			EmailAddresses: []string{"ops@example.com"},
			URIs:           []*url.URL{must(url.Parse("spiffe://cluster.local/ns/apps/sa/hook"))},
		},
		"go-empty": {DNSNames: []string{"hook.apps.svc"}},
	}
	number := 0
	for _, name := range []string{"go-client", "go-names", "go-empty"} {
		template := templates[name]
		writeDER(name, must(x509.CreateCertificateRequest(rand.Reader, &template, keys[number])))
		number++
	}
}

// The templates are those of pkg/kubelet/certificate/kubelet.go, the rest is what client-go's certificate manager calls.
func kubelet(ecKey, rsaKey crypto.Signer) {
	subject := pkix.Name{CommonName: "system:node:ip-10-0-0-1.eu-central-1.compute.internal", Organization: []string{"system:nodes"}}
	serving := x509.CertificateRequest{
		Subject:     subject,
		DNSNames:    []string{"ip-10-0-0-1.eu-central-1.compute.internal"},
		IPAddresses: []net.IP{net.ParseIP("10.0.0.1"), net.ParseIP("fd00::1")},
	}
	write("kubelet-serving", must(cert.MakeCSRFromTemplate(ecKey, &serving)))
	write("kubelet-client", must(cert.MakeCSRFromTemplate(ecKey, &x509.CertificateRequest{Subject: subject})))
	write("kubelet-client-rsa", must(cert.MakeCSR(rsaKey, &subject, nil, nil)))
}

func certManager(ecKey, rsaKey crypto.Signer) {
	certificates := map[string]v1.CertificateSpec{
		"certmanager-serving": {
			DNSNames:   []string{"hook.apps.svc", "hook.apps"},
			Usages:     []v1.KeyUsage{v1.UsageDigitalSignature, v1.UsageKeyEncipherment, v1.UsageServerAuth},
			PrivateKey: &v1.CertificatePrivateKey{Algorithm: v1.ECDSAKeyAlgorithm, Size: 256},
		},
		"certmanager-subject": {
			CommonName:  "hook.apps.svc",
			DNSNames:    []string{"hook.apps.svc"},
			IPAddresses: []string{"10.1.2.3"},
			Subject:     &v1.X509Subject{Organizations: []string{"shop", "apps"}, OrganizationalUnits: []string{"web"}, Countries: []string{"DE"}},
			PrivateKey:  &v1.CertificatePrivateKey{Algorithm: v1.RSAKeyAlgorithm, Size: 2048},
		},
	}
	for name, spec := range certificates {
		var key crypto.Signer = ecKey
		if spec.PrivateKey.Algorithm == v1.RSAKeyAlgorithm {
			key = rsaKey
		}
		template := must(pki.GenerateCSR(&v1.Certificate{Spec: spec}, pki.WithEncodeBasicConstraintsInRequest(true)))
		writeDER(name, must(pki.EncodeCSR(template, key)))
	}
}
