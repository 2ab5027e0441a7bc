// Command netpol enforces networking.k8s.io/v1 NetworkPolicies on one node with nftables.
//
// It is test equipment: small enough to be read, and judged by Kubernetes' own suite. The same
// program is the daemon and, when called with CNI_COMMAND set, the last CNI plugin of the chain.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	if command := os.Getenv("CNI_COMMAND"); command != "" {
		os.Exit(pluginMain(command))
	}
	if err := daemonMain(); err != nil {
		slog.Error("netpol ends", "cause", err)
		os.Exit(1)
	}
}

func pluginMain(command string) int {
	result, err := runPlugin(command, os.Getenv("CNI_ARGS"), os.Stdin)
	if err != nil {
		// Code 11 asks the runtime to try again later.
		answer, _ := json.Marshal(map[string]any{"cniVersion": "1.0.0", "code": 11, "msg": err.Error()})
		fmt.Println(string(answer))
		return 1
	}
	os.Stdout.Write(result)
	return 0
}

func daemonMain() error {
	kubeconfig := flag.String("kubeconfig", "", "file that says how to reach the API server")
	node := flag.String("node", "", "name of the node whose pods are guarded")
	socket := flag.String("socket", "", "Unix socket to serve the CNI plugin on")
	flag.Parse()
	if *kubeconfig == "" || *node == "" || *socket == "" {
		return fmt.Errorf("--kubeconfig, --node and --socket are required")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return fmt.Errorf("reading %s: %w", *kubeconfig, err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("connecting to the API server: %w", err)
	}
	enforcer, err := startEnforcer(ctx, client, *node)
	if err != nil {
		return err
	}
	return serve(ctx, enforcer, *socket)
}
