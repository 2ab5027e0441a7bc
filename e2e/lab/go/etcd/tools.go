//go:build tools

// Package tools names the program that the lab builds from the etcd module.
package tools

import _ "go.etcd.io/etcd/server/v3"
