package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Table is the nftables table that holds every rule of this program, and nothing else.
const Table = "vklab_policy"

// render turns a state into one nftables transaction that replaces the whole table.
//
// Packets are judged after the destination was translated, so a rule sees the pod behind a
// service address. Traffic between pods, and from pods to other machines, passes `forward`;
// traffic from pods to their own host passes `input`. What the host sends passes neither, which
// keeps the kubelet's probes working, as the API demands.
//
// An isolated pod has a chain per direction: each rule returns what it allows, the last one
// drops. Returning, not accepting, because a packet between two isolated pods must please both.
func render(state *State) (string, error) {
	all := state.endpoints()
	ingress, err := state.guards(all, networkingv1.PolicyTypeIngress)
	if err != nil {
		return "", err
	}
	egress, err := state.guards(all, networkingv1.PolicyTypeEgress)
	if err != nil {
		return "", err
	}

	var out strings.Builder
	// Declaring the table first makes deleting it valid when it doesn't exist yet.
	fmt.Fprintf(&out, "table ip %s {}\ndelete table ip %s\ntable ip %s {\n", Table, Table, Table)
	writeMap(&out, "ingress_pods", ingress)
	writeMap(&out, "egress_pods", egress)
	state.writeSelf(&out, all)
	for _, guarded := range slices.Concat(ingress, egress) {
		guarded.write(&out)
	}
	out.WriteString(`	chain forward {
		type filter hook forward priority filter; policy accept;
		ct state established,related accept
		ip saddr . ip daddr @self accept
		ip saddr vmap @egress_pods
		ip daddr vmap @ingress_pods
	}
	chain input {
		type filter hook input priority filter; policy accept;
		ct state established,related accept
		ip saddr vmap @egress_pods
	}
}
`)
	return out.String(), nil
}

// guard is the chain of one isolated pod in one direction.
type guard struct {
	chain   string
	address netip.Addr
	comment string
	allowed []string
}

func (g guard) write(out *strings.Builder) {
	fmt.Fprintf(out, "\t# %s\n\tchain %s {\n", g.comment, g.chain)
	for _, match := range g.allowed {
		fmt.Fprintf(out, "\t\t%s\n", strings.TrimSpace(match+" return"))
	}
	out.WriteString("\t\tdrop\n\t}\n")
}

func writeMap(out *strings.Builder, name string, guards []guard) {
	fmt.Fprintf(out, "\tmap %s {\n\t\ttype ipv4_addr : verdict\n", name)
	if len(guards) > 0 {
		elements := make([]string, len(guards))
		for i, g := range guards {
			elements[i] = fmt.Sprintf("%s : jump %s", g.address, g.chain)
		}
		fmt.Fprintf(out, "\t\telements = { %s }\n", strings.Join(elements, ", "))
	}
	out.WriteString("\t}\n")
}

// writeSelf lists each local pod paired with itself: a pod may always reach itself, also through a service.
func (s *State) writeSelf(out *strings.Builder, all []endpoint) {
	out.WriteString("\tset self {\n\t\ttype ipv4_addr . ipv4_addr\n")
	var pairs []string
	for _, e := range all {
		if e.pod.Spec.NodeName == s.Node {
			pairs = append(pairs, fmt.Sprintf("%s . %s", e.address, e.address))
		}
	}
	if len(pairs) > 0 {
		fmt.Fprintf(out, "\t\telements = { %s }\n", strings.Join(pairs, ", "))
	}
	out.WriteString("\t}\n")
}

// guards builds the chains of all local pods that some policy isolates in the given direction.
func (s *State) guards(all []endpoint, way direction) ([]guard, error) {
	var found []guard
	for _, target := range all {
		if target.pod.Spec.NodeName != s.Node {
			continue
		}
		isolated := false
		var allowed []string
		for _, policy := range s.Policies {
			selected, err := isolates(policy, target, way)
			if err != nil {
				return nil, fmt.Errorf("policy %s/%s: %w", policy.Namespace, policy.Name, err)
			}
			if !selected {
				continue
			}
			isolated = true
			matches, err := s.allowedBy(policy, target, all, way)
			if err != nil {
				return nil, fmt.Errorf("policy %s/%s: %w", policy.Namespace, policy.Name, err)
			}
			allowed = append(allowed, matches...)
		}
		if isolated {
			slices.Sort(allowed)
			found = append(found, guard{
				chain:   chainName(way, target.address),
				address: target.address,
				comment: fmt.Sprintf("%s of %s/%s", way, target.pod.Namespace, target.pod.Name),
				allowed: slices.Compact(allowed),
			})
		}
	}
	return found, nil
}

func chainName(way direction, address netip.Addr) string {
	return strings.ToLower(string(way)) + "_" + strings.ReplaceAll(address.String(), ".", "_")
}

// allowedBy lists the matches that one policy lets pass for one pod.
func (s *State) allowedBy(policy *networkingv1.NetworkPolicy, target endpoint, all []endpoint, way direction) ([]string, error) {
	var found []string
	if way == networkingv1.PolicyTypeIngress {
		for _, rule := range policy.Spec.Ingress {
			matches, err := s.ingressMatches(policy.Namespace, rule, target, all)
			if err != nil {
				return nil, err
			}
			found = append(found, matches...)
		}
		return found, nil
	}
	for _, rule := range policy.Spec.Egress {
		matches, err := s.egressMatches(policy.Namespace, rule, all)
		if err != nil {
			return nil, err
		}
		found = append(found, matches...)
	}
	return found, nil
}

// ingressMatches: the peers are sources, the ports are the target's own.
func (s *State) ingressMatches(namespace string, rule networkingv1.NetworkPolicyIngressRule, target endpoint, all []endpoint) ([]string, error) {
	ports := portMatches(rule.Ports, func(name string, protocol corev1.Protocol) []int32 {
		if number, found := target.namedPort(name, protocol); found {
			return []int32{number}
		}
		return nil
	})
	sources, err := s.peerMatches(namespace, rule.From, all, "saddr")
	if err != nil {
		return nil, err
	}
	return combine(sources, ports), nil
}

// egressMatches: the peers are destinations, and a named port may have another number on each.
func (s *State) egressMatches(namespace string, rule networkingv1.NetworkPolicyEgressRule, all []endpoint) ([]string, error) {
	numbered := slices.DeleteFunc(slices.Clone(rule.Ports), isNamed)
	var found []string
	if len(rule.Ports) == 0 || len(numbered) > 0 {
		destinations, err := s.peerMatches(namespace, rule.To, all, "daddr")
		if err != nil {
			return nil, err
		}
		found = combine(destinations, portMatches(numbered, nil))
	}
	for _, port := range rule.Ports {
		if !isNamed(port) {
			continue
		}
		peers := all
		if len(rule.To) > 0 {
			peers = nil
			for _, peer := range rule.To {
				// Only pods have named ports, so a block of addresses names none.
				if peer.IPBlock != nil {
					continue
				}
				pods, err := s.peerPods(namespace, peer, all)
				if err != nil {
					return nil, err
				}
				peers = append(peers, pods...)
			}
		}
		byNumber := map[int32][]endpoint{}
		for _, peer := range peers {
			if number, has := peer.namedPort(port.Port.StrVal, protocolOf(port.Protocol)); has {
				byNumber[number] = append(byNumber[number], peer)
			}
		}
		for number, pods := range byNumber {
			found = append(found, addressMatch("daddr", pods)+" "+
				fmt.Sprintf("%s dport %d", keyword(protocolOf(port.Protocol)), number))
		}
	}
	return found, nil
}

func isNamed(port networkingv1.NetworkPolicyPort) bool {
	return port.Port != nil && port.Port.Type == intstr.String
}

// peerMatches lists address matches; one empty match means "from or to anywhere".
func (s *State) peerMatches(namespace string, peers []networkingv1.NetworkPolicyPeer, all []endpoint, field string) ([]string, error) {
	if len(peers) == 0 {
		return []string{""}, nil
	}
	var found []string
	for _, peer := range peers {
		if peer.IPBlock != nil {
			if match, ok := blockMatch(peer.IPBlock, field); ok {
				found = append(found, match)
			}
			continue
		}
		pods, err := s.peerPods(namespace, peer, all)
		if err != nil {
			return nil, err
		}
		if len(pods) > 0 {
			found = append(found, addressMatch(field, pods))
		}
	}
	return found, nil
}

func addressMatch(field string, pods []endpoint) string {
	addresses := make([]string, len(pods))
	for i, e := range pods {
		addresses[i] = e.address.String()
	}
	slices.Sort(addresses)
	return fmt.Sprintf("ip %s { %s }", field, strings.Join(slices.Compact(addresses), ", "))
}

// blockMatch renders a block of addresses without its exceptions. The pod network has IPv4 only.
func blockMatch(block *networkingv1.IPBlock, field string) (string, bool) {
	prefix, err := netip.ParsePrefix(block.CIDR)
	if err != nil || !prefix.Addr().Is4() {
		return "", false
	}
	match := fmt.Sprintf("ip %s %s", field, prefix.Masked())
	for _, except := range block.Except {
		excluded, err := netip.ParsePrefix(except)
		if err != nil || !excluded.Addr().Is4() {
			continue
		}
		match += fmt.Sprintf(" ip %s != %s", field, excluded.Masked())
	}
	return match, true
}

// portMatches lists port matches; one empty match means "any protocol and port".
// A named port that resolves to nothing allows nothing.
func portMatches(ports []networkingv1.NetworkPolicyPort, resolve func(string, corev1.Protocol) []int32) []string {
	if len(ports) == 0 {
		return []string{""}
	}
	var found []string
	for _, port := range ports {
		protocol := protocolOf(port.Protocol)
		switch {
		case port.Port == nil:
			found = append(found, "meta l4proto "+keyword(protocol))
		case isNamed(port):
			for _, number := range resolve(port.Port.StrVal, protocol) {
				found = append(found, fmt.Sprintf("%s dport %d", keyword(protocol), number))
			}
		case port.EndPort != nil:
			found = append(found, fmt.Sprintf("%s dport %d-%d", keyword(protocol), port.Port.IntVal, *port.EndPort))
		default:
			found = append(found, fmt.Sprintf("%s dport %d", keyword(protocol), port.Port.IntVal))
		}
	}
	return found
}

func keyword(protocol corev1.Protocol) string {
	return strings.ToLower(string(protocol))
}

func combine(addresses, ports []string) []string {
	var found []string
	for _, address := range addresses {
		for _, port := range ports {
			found = append(found, strings.TrimSpace(address+" "+port))
		}
	}
	return found
}
