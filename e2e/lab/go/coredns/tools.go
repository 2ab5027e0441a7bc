//go:build tools

// Package tools names the program that the lab builds from the CoreDNS module.
package tools

import _ "github.com/coredns/coredns"
