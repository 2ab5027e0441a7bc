package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// applyRules hands one transaction to the kernel: all of it takes effect at once, or none.
func applyRules(ctx context.Context, rules string) error {
	command := exec.CommandContext(ctx, "nft", "-f", "-")
	command.Stdin = strings.NewReader(rules)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("nft refused the rule set: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return nil
}
