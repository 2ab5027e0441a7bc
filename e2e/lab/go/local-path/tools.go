//go:build tools

// Package tools names the program that the lab builds from local-path-provisioner.
package tools

import _ "github.com/rancher/local-path-provisioner"
