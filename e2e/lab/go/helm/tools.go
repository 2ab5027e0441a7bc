//go:build tools

// Package tools names the program that the lab builds from the Helm module.
package tools

import _ "helm.sh/helm/v4/cmd/helm"
