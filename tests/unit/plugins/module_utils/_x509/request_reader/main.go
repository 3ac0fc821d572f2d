// Copyright (c) certflow.kubernetes contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Command request_reader tells what Go reads in texts: every PEM block, and the certificate request in the first one, as
// kube-apiserver and the signers of Kubernetes read it. It reads a JSON list of texts in base64 from standard input and
// writes a JSON list of answers, in the same order. It is built with the oldest and with the newest Go.
package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"log"
	"os"
)

type block struct {
	Label   []byte `json:"label"` // any bytes, which a JSON string cannot hold
	Headers int    `json:"headers"`
	DER     []byte `json:"der"`
}

// A request of an error is not accepted by the API server (ParseCSR and CheckSignature).
type request struct {
	Error         string   `json:"error"`
	Signature     string   `json:"signature"`
	CommonName    string   `json:"common_name"`
	Organizations []string `json:"organizations"`
	Subject       []string `json:"subject"`
	DNSNames      []string `json:"dns_names"`
	Addresses     []string `json:"ip_addresses"`
	Emails        []string `json:"emails"`
	URIs          []string `json:"uris"`
	PublicKey     string   `json:"public_key_sha256"`
	Extensions    []string `json:"extensions"`
	KeyUsage      string   `json:"key_usage"`
	ExtendedUsage []string `json:"extended_usage"`
	IsCA          bool     `json:"is_ca"`
}

type answer struct {
	Blocks  []block `json:"blocks"`
	Request request `json:"request"`
}

func main() {
	var texts [][]byte
	if err := json.NewDecoder(os.Stdin).Decode(&texts); err != nil {
		log.Fatal(err)
	}
	answers := make([]answer, 0, len(texts))
	for _, text := range texts {
		answers = append(answers, answer{blocks(text), first(text)})
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		log.Fatal(err)
	}
}

func blocks(text []byte) []block {
	found := []block{}
	for {
		next, rest := pem.Decode(text)
		if next == nil {
			return found
		}
		found = append(found, block{[]byte(next.Type), len(next.Headers), next.Bytes})
		text = rest
	}
}

func first(text []byte) request {
	next, _ := pem.Decode(text)
	if next == nil || next.Type != "CERTIFICATE REQUEST" {
		return request{Error: "PEM block type must be CERTIFICATE REQUEST"}
	}
	found, err := x509.ParseCertificateRequest(next.Bytes)
	if err != nil {
		return request{Error: err.Error()}
	}
	return describe(found)
}

func describe(found *x509.CertificateRequest) request {
	key := sha256.Sum256(found.RawSubjectPublicKeyInfo)
	result := request{
		CommonName:    found.Subject.CommonName,
		Organizations: found.Subject.Organization,
		DNSNames:      found.DNSNames,
		Emails:        found.EmailAddresses,
		PublicKey:     hex.EncodeToString(key[:]),
	}
	if err := found.CheckSignature(); err != nil {
		result.Signature = err.Error()
	}
	for _, part := range found.Subject.Names {
		if text, ok := part.Value.(string); ok {
			result.Subject = append(result.Subject, part.Type.String()+"="+text)
		}
	}
	for _, address := range found.IPAddresses {
		result.Addresses = append(result.Addresses, address.String())
	}
	for _, uri := range found.URIs {
		result.URIs = append(result.URIs, uri.String())
	}
	for _, extension := range found.Extensions {
		result.Extensions = append(result.Extensions, extension.Id.String())
		inside(extension.Id.String(), extension.Value, &result)
	}
	return result
}

// What a signer that copies extensions would take from them.
func inside(kind string, value []byte, result *request) {
	switch kind {
	case "2.5.29.15":
		var bits asn1.BitString
		if _, err := asn1.Unmarshal(value, &bits); err == nil {
			for number := 0; number < 9; number++ {
				result.KeyUsage += string(rune('0' + bits.At(number)))
			}
		}
	case "2.5.29.37":
		var usages []asn1.ObjectIdentifier
		if _, err := asn1.Unmarshal(value, &usages); err == nil {
			for _, usage := range usages {
				result.ExtendedUsage = append(result.ExtendedUsage, usage.String())
			}
		}
	case "2.5.29.19":
		var constraints struct {
			IsCA       bool `asn1:"optional"`
			MaxPathLen int  `asn1:"optional,default:-1"`
		}
		if _, err := asn1.Unmarshal(value, &constraints); err == nil {
			result.IsCA = constraints.IsCA
		}
	}
}
