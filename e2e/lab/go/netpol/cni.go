package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Run as the last CNI plugin of the chain, this program announces a pod's address to its daemon
// and waits until the pod's policies hold. Without it a pod would be unguarded from the start of
// its containers until the kubelet has written its address into its status.

// pluginConfig is the part of the CNI configuration that the plugin reads.
type pluginConfig struct {
	Version  string          `json:"cniVersion"`
	Socket   string          `json:"socket"`
	Previous json.RawMessage `json:"prevResult"`
}

type previousResult struct {
	Addresses []struct {
		Address netip.Prefix `json:"address"`
	} `json:"ips"`
}

// runPlugin answers one CNI call; what it returns goes to standard output.
func runPlugin(command, arguments string, stdin io.Reader) ([]byte, error) {
	switch command {
	case "VERSION":
		return []byte(`{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"]}`), nil
	case "ADD":
		return addPod(arguments, stdin)
	case "DEL", "CHECK", "GC", "STATUS":
		// Nothing is kept per pod here: the daemon forgets a pod when the API does.
		return nil, nil
	default:
		return nil, fmt.Errorf("unknown CNI command %q", command)
	}
}

func addPod(arguments string, stdin io.Reader) ([]byte, error) {
	var config pluginConfig
	if err := json.NewDecoder(stdin).Decode(&config); err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	var previous previousResult
	if err := json.Unmarshal(config.Previous, &previous); err != nil {
		return nil, fmt.Errorf("reading the previous plugin's result: %w", err)
	}
	values := map[string]string{}
	for pair := range strings.SplitSeq(arguments, ";") {
		key, value, _ := strings.Cut(pair, "=")
		values[key] = value
	}
	for _, entry := range previous.Addresses {
		pod := announcement{
			Namespace: values["K8S_POD_NAMESPACE"],
			Name:      values["K8S_POD_NAME"],
			UID:       values["K8S_POD_UID"],
			Address:   entry.Address.Addr(),
		}
		if err := announce(config.Socket, pod); err != nil {
			return nil, fmt.Errorf("pod %s/%s: %w", pod.Namespace, pod.Name, err)
		}
	}
	return config.Previous, nil
}

func announce(socket string, pod announcement) error {
	body, err := json.Marshal(pod)
	if err != nil {
		return err
	}
	client := http.Client{
		Timeout: announceTimeout * 2,
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}},
	}
	response, err := client.Post("http://netpol/pods", "application/json", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("asking the policy daemon: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		reason, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
		return fmt.Errorf("the policy daemon answered %s: %s", response.Status, strings.TrimSpace(string(reason)))
	}
	return nil
}
