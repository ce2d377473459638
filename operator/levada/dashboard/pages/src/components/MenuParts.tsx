import { Menu as Base } from "@base-ui/react/menu";
import { Check } from "lucide-react";
import { type ReactElement, type ReactNode, Suspense } from "react";

export interface MenuProps {
  trigger: ReactElement;
  children: ReactNode;
  align?: "start" | "end";
  defaultOpen?: boolean;
}

/** A button with a menu under it. */
export function Menu({ trigger, children, align = "start", defaultOpen = false }: MenuProps) {
  return (
    <Base.Root defaultOpen={defaultOpen}>
      <Base.Trigger render={trigger} />
      <Base.Portal>
        <Base.Positioner sideOffset={4} align={align} style={{ zIndex: 50 }}>
          <Base.Popup className="popup">
            <Suspense fallback={null}>{children}</Suspense>
          </Base.Popup>
        </Base.Positioner>
      </Base.Portal>
    </Base.Root>
  );
}

export function MenuItem({
  onClick,
  disabled,
  children,
}: {
  onClick: () => void;
  disabled?: boolean;
  children: ReactNode;
}) {
  return (
    <Base.Item className="popup-item" onClick={onClick} disabled={disabled}>
      {children}
    </Base.Item>
  );
}

/** An item that is on or off; the menu stays open. */
export function MenuCheck({
  checked,
  onChange,
  children,
}: {
  checked: boolean;
  onChange: (checked: boolean) => void;
  children: ReactNode;
}) {
  return (
    <Base.CheckboxItem className="popup-item" checked={checked} onCheckedChange={onChange}>
      <span style={{ width: 14, display: "inline-flex" }}>{checked && <Check size={14} aria-hidden />}</span>
      {children}
    </Base.CheckboxItem>
  );
}

/** One of several. */
export function MenuChoice({
  value,
  options,
  onChange,
}: {
  value: string;
  options: readonly (readonly [string, ReactNode])[];
  onChange: (value: string) => void;
}) {
  return (
    <Base.RadioGroup value={value} onValueChange={onChange}>
      {options.map(([key, label]) => (
        <Base.RadioItem className="popup-item" key={key} value={key} closeOnClick>
          <span style={{ width: 14, display: "inline-flex" }}>{key === value && <Check size={14} aria-hidden />}</span>
          <span className="truncate">{label}</span>
        </Base.RadioItem>
      ))}
    </Base.RadioGroup>
  );
}
